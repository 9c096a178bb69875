<!DOCTYPE html>
<html lang="[% lang %]">
  <head>
    <meta charset="utf-8">
    <title>[% nodename %] - Environment</title>
    <link rel="icon" href="/pve2/images/logo.png?v=[% version %]">
    [% IF theme != 'plain' -%]
    <link rel="stylesheet" href="/pwt/themes/theme-[% theme %].css?v=[% wtversion %]">
    [%- ELSE -%]
    <link rel="stylesheet" href="/pve2/css/plain.css">
    [%- END %]
    [%- IF langfile %]
    <script src='/pve2/locale/pve-lang-[% lang %].js?v=[% i18n_js_mtime %]'></script>
    [%- ELSE %]
    <script>function gettext(text) { return text; }</script>
    [%- END %]
    [%- IF debug %]
    <script>window.detail = 'debug';</script>
    [%- ELSE %]
    <script>window.detail = 'release';</script>
    [%- END %]
    <script>
    window.Page = {
        shape: 'pve-desktop',
        lang: '[% lang %]',
        arch: '[% arch %]',
        node: '[% nodename %]',
        user: '[% username %]',
        token: '[% token %]',
        consent: '[% consenttext %]',
    };
    </script>
  </head>
  <body></body>
</html>
