//! The files that the installed pages load. They show a missing directory also if the product does not describe itself.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use http::Method;

use super::consequence::Consequence;
use super::difference::{Change, Difference, DifferentPart};
use super::installed::ServedKind;
use crate::config::Config;
use crate::http::api_grammar::ApiGrammar;
use crate::http::target::RequestTarget;
use crate::proxy::router::{Route, RouteRules};
use crate::upstream::nodes::NodeFile;

const MAX_TEMPLATE_BYTES: u64 = 1 << 20;
const ATTRIBUTES: [&str; 2] = ["src=", "href="];

/// The files that nothing serves. `known` are the differences that are found already.
pub(super) fn find(config: &Config, known: &[Difference]) -> Vec<Difference> {
    let Ok(api) = ApiGrammar::new(&config.product) else { return Vec::new() };
    let nodes = NodeFile::new(config.product.nodes.as_ref(), &config.root, &config.settings.node_name);
    let (routes, nodes) = (RouteRules::new(config), Arc::new(nodes));
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for choice in config.product.page.iter().flat_map(|page| &page.template) {
        for url in links(&read(&config.root.path(&choice.file))) {
            let target = RequestTarget::parse(&url, &api);
            let route = target.ok().and_then(|target| routes.resolve(&Method::GET, &target, "", &nodes).ok());
            let is_missing = matches!(route, Some(Route::Missing(_)));
            if is_missing && !is_known(known, &url) && seen.insert(url.clone()) {
                found.push(difference(url, &choice.file));
            }
        }
    }
    found
}

fn is_known(known: &[Difference], url: &str) -> bool {
    known.iter().any(|known| match known.part {
        DifferentPart::Served(ServedKind::Directory) => url.starts_with(&known.name),
        DifferentPart::Served(ServedKind::File | ServedKind::Page) => url == known.name,
        DifferentPart::Route => false,
    })
}

fn difference(url: String, template: &Path) -> Difference {
    Difference {
        change: Change::New,
        part: DifferentPart::Served(ServedKind::File),
        name: url,
        ours: None,
        installed: Some(format!("loaded by {}", template.display())),
        consequence: Consequence {
            fails: true,
            text: "nodegate answers 404, and the page lacks it".to_owned(),
        },
        with_new_table: None,
    }
}

/// A template that cannot be read is a matter of `nodegate check`.
fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(MAX_TEMPLATE_BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The paths on this server in the attributes of a page, up to a query or a directive of the template.
fn links(template: &str) -> BTreeSet<String> {
    let values = ATTRIBUTES.iter().flat_map(|attribute| template.split(attribute).skip(1));
    let paths = values.map(|value| {
        let value = value.trim_start_matches(['"', '\'']);
        value.split(['"', '\'', ' ', '\n', '<', '>', '?', '#', '[']).next().unwrap_or_default()
    });
    let own = paths.filter(|path| path.len() > 1 && path.starts_with('/') && !path.starts_with("//"));
    own.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigSources;
    use crate::config::root::RootDirectory;

    #[test]
    fn links_are_found_in_attributes() {
        let template = r#"<link href="/a/b.css?ver=[% v %]"><script src='/c.js'></script>
            <script src="/pve2/locale/lang-[% lang %].js"></script><a href="https://example.com/d">
            <a href="//example.com/e"><a href="/"><img src=/f.png><a href="[% base %]/g"><a href="rel/h">"#;
        let expected = ["/a/b.css", "/c.js", "/f.png", "/pve2/locale/lang-"];
        assert_eq!(links(template).iter().map(String::as_str).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn unserved_files_of_a_page_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("usr/share/pve-manager/index.html.tpl");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let page = r#"<script src="/pve2/js/x.js?ver=1"></script><script src="/pve3/js/y.js"></script>
            <link href="/pve4/z.css"><a href="/api2/html/version">"#;
        std::fs::write(&file, page).unwrap();
        let root = RootDirectory::new(directory.path().to_owned());
        let config = Config::load("pve", &ConfigSources { root, sets: Vec::new() }).unwrap();
        let names = |known: &[Difference]| {
            find(&config, known).into_iter().map(|found| found.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["/pve3/js/y.js", "/pve4/z.css"]);
        let mut known = difference("/pve3/".to_owned(), &file);
        known.part = DifferentPart::Served(ServedKind::Directory);
        assert_eq!(names(&[known]), ["/pve4/z.css"]);
    }
}
