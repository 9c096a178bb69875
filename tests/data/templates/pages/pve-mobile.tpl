[%- USE date;
    now = date.now;
    page_version = yew_mobile_mtime or now;
    words_version = i18n_yew_mobile_mtime or 'none';
    base = yew_mobile_base_path or '/mobile';
    theme_name = theme or 'auto'; -%]
<!DOCTYPE html>
<html lang="[% lang %]">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <title>[% nodename %]</title>
    <link rel="stylesheet" href="[% base %]/[% theme_name %].css?v=[% page_version %]" />
    [% IF langfile -%]
    <link rel="preload" as="fetch" href="[% base %]/i18n/catalog-[% lang %].mo?v=[% words_version %]" />
    [% END -%]
    <script>
      window.Page = {
        shape: 'pve-mobile',
        lang: "[% lang %]",
        user: "[% username %]",
        token: "[% token %]",
        base: "[% base %]",
        version: [% page_version %],
        words: "[% words_version %]",
      };
    </script>
  </head>
  <body></body>
</html>
