<!DOCTYPE html>
<html>
    <head>
        <title>[% nodename %] - Console</title>
        <link rel="stylesheet" href="/xtermjs/xterm.css?version=[% version %]" />
        [%- IF langfile %]
        <script type='text/javascript' src='/pve2/locale/pve-lang-[% lang %].js?ver=[% version %]'></script>
        [%- END %]
        <script type="text/javascript">
            window.Page = { shape: "xtermjs", console: "[% console %]", node: "[% nodename %]" };
            Page.user = "[% username %]";
            Page.token = "[% token %]";
        </script>
    </head>
    <body><div id="terminal"></div></body>
</html>
