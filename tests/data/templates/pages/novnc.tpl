<!DOCTYPE html>
<html>
<head>
    <meta charset="utf-8" />
    <title>[% IF console %][% console %] on [% END %][% nodename %]</title>
    [% IF langfile %]<script src="/pve2/locale/pve-lang-[% lang %].js"></script>[% ELSE %]<script>function gettext(t) { return t; }</script>[% END %]
    <script>
      window.Page = {
          shape: 'novnc',
          console: '[% console %]',
          node: '[% nodename %]',
          user: '[% username %]',
          token: '[% token %]',
          debug: [% IF debug %]true[% ELSE %]false[% END %],
      };
    </script>
    <link rel="stylesheet" href="/novnc/app/styles/base.css?ver=[% version %]">
</head>
<body><div id="screen"></div></body>
</html>
