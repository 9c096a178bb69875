//! Every API method of both products goes where the reference tables say, from whichever node it is asked.

use http::Method;
use nodegate::testing::config::{Config, ConfigSources, RootDirectory};
use nodegate::testing::http::ApiGrammar;
use nodegate::testing::http::RequestTarget;
use nodegate::testing::http::Route;
use nodegate::testing::http::RouteRules;
use nodegate::testing::upstream::NodeFile;

const MEMBERS: &str = r#"{"nodename":"node1","version":1,"cluster":{"name":"c","version":1,"nodes":2,"quorate":1},
    "nodelist":{"node1":{"id":1,"online":1,"ip":"127.0.0.1"},"node2":{"id":2,"online":1,"ip":"127.0.0.2"}}}"#;
const SECTIONS: &str = "master: 1\n\tip 127.0.0.2\n\tname node2\n\nnode: 2\n\tip 127.0.0.1\n\tname node1\n";

/// A row of the tables.
struct Row<'a> {
    method: Method,
    template: &'a str,
    columns: Vec<&'a str>,
}

impl Row<'_> {
    fn is(&self, column: usize, value: &str) -> bool {
        self.columns[column] == value
    }

    /// The path with `node` for its node and example values for all else.
    fn path(&self, node: &str) -> String {
        let segments = self.template.split('/').map(|segment| match segment {
            "{node}" => node.to_owned(),
            "{volume}" => "local:iso%2Fx.iso".to_owned(),
            "{cidr}" => "10.0.0.0%2F8".to_owned(),
            parameter if parameter.starts_with('{') => "example.1".to_owned(),
            literal => literal.to_owned(),
        });
        format!("/api2/json{}", segments.collect::<Vec<_>>().join("/"))
    }

    /// As `nodegate route` says it, when the request names `node` in its path or its query.
    fn expected(&self, node: &str) -> String {
        let here = if self.is(2, "1") { "daemon" } else { "unprivileged" };
        let elsewhere = |name: &str| if name == "node2" { format!("node:{name}") } else { here.to_owned() };
        if self.is(8, "1") {
            "upload".to_owned()
        } else if self.is(9, "1") {
            "websocket".to_owned()
        } else if self.is(3, "master") {
            "master:node2".to_owned()
        } else if self.is(3, "node") || self.is(4, "1") {
            elsewhere(node)
        } else {
            here.to_owned()
        }
    }
}

fn walk(profile: &str, node_file: (&str, &str)) -> usize {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(node_file.0);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, node_file.1).unwrap();
    let sets = ["node.name=node1", "backend.unprivileged=127.0.0.1:86"].map(str::to_owned).to_vec();
    let options = ConfigSources { root: RootDirectory::new(root.path().to_path_buf()), sets };
    let config = Config::load(profile, &options).unwrap();
    let api = ApiGrammar::new(&config.product).unwrap();
    let routes = RouteRules::new(&config);
    let nodes = NodeFile::new(config.product.nodes.as_ref(), &config.root, &config.settings.node_name);
    let table = format!("{}/tests/data/routes/{profile}.tsv", env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(table).unwrap();
    let mut rows = 0;
    for line in table.lines().skip(1) {
        let columns: Vec<_> = line.split('\t').collect();
        let row = Row { method: columns[0].parse().unwrap(), template: columns[1], columns };
        for node in ["node1", "node2", "localhost"] {
            let target = RequestTarget::parse(&row.path(node), &api).unwrap();
            let query = format!("node={node}&check-node={node}");
            let route: Route = routes.resolve(&row.method, &target, &query, &nodes).unwrap();
            assert_eq!(route.to_string(), row.expected(node), "{} {} {query}", row.method, row.path(node));
        }
        rows += 1;
    }
    rows
}

#[test]
fn every_method_is_routed_as_the_reference() {
    assert_eq!(walk("pve", ("etc/pve/.members", MEMBERS)), 679);
    assert_eq!(walk("pmg", ("etc/pmg/cluster.conf", SECTIONS)), 426);
}
