//! The API methods of a product and the target of each, from the compact table of its profile.
//!
//! Each line is a path: the template, then each method with its flags behind a colon (`docs/reference/profile.md`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use matchit::{Params, Router};

use crate::config::added_files::AddedFiles;

/// The methods of an API. The product answers others with 501.
const VERBS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
/// A file that is no table has a wrong line after the other, and each one is logged.
const MAX_PROBLEMS: usize = 20;
/// Some editors begin a file with it.
const BYTE_ORDER_MARK: char = '\u{feff}';
/// Begins a comment that names a package and its version.
const MADE_FROM: &str = "# made from ";

/// Which node answers a method.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum NodeChoice {
    /// the node that was asked
    #[default]
    Here,
    /// the node that the parameter `node` names, in the path or in the query
    Node,
    /// the node that the optional query parameter `check-node` names
    CheckNode,
    /// the master of the cluster
    Master,
}

/// The flags of one method.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ApiMethod {
    pub home: NodeChoice,
    /// needs root: only the daemon can answer it
    pub protected: bool,
    /// needs no login
    pub open: bool,
    /// refuses API tokens
    pub no_token: bool,
    pub kind: MethodKind,
}

/// The kind of traffic of a method.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MethodKind {
    #[default]
    Call,
    /// may answer with a file to stream
    Download,
    Upload,
    Websocket,
}

/// A method of the table, with the parameters of one path.
pub struct RouteMatch<'p> {
    pub method: ApiMethod,
    /// `GET /nodes/{node}/status`
    pub template: &'p Arc<str>,
    parameters: Params<'p, 'p>,
}

impl RouteMatch<'_> {
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name)
    }
}

impl ApiMethod {
    /// As a route table writes them: `pn`.
    pub fn flags(self) -> String {
        let home = match self.home {
            NodeChoice::Here => None,
            NodeChoice::Node => Some('n'),
            NodeChoice::CheckNode => Some('c'),
            NodeChoice::Master => Some('m'),
        };
        let kind = match self.kind {
            MethodKind::Call => None,
            MethodKind::Download => Some('d'),
            MethodKind::Upload => Some('u'),
            MethodKind::Websocket => Some('w'),
        };
        let protected = self.protected.then_some('p');
        let (no_token, open) = (self.no_token.then_some('t'), self.open.then_some('o'));
        [protected, home, no_token, open, kind].into_iter().flatten().collect()
    }
}

/// A line of a table that cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TableProblem {
    pub line: usize,
    pub message: String,
}

/// A method of one path.
#[derive(Clone)]
struct TableMethod {
    verb: String,
    template: Arc<str>,
    method: ApiMethod,
}

impl TableMethod {
    fn is_open_call(&self) -> bool {
        let ApiMethod { home, protected, open, kind, .. } = self.method;
        self.verb == "GET" && open && !protected && kind == MethodKind::Call && home == NodeChoice::Here
    }
}

/// All methods of a product. Without a table every path is unknown.
#[derive(Default)]
pub struct RouteTable {
    router: Router<Vec<TableMethod>>,
    /// in the order of the file
    methods: Vec<TableMethod>,
    /// the path of the first plain GET that needs no login, no root and no parameter
    open_path: Option<String>,
    /// the packages that it was made from, each with its version
    pub made_from: BTreeMap<String, String>,
    pub added: AddedFiles,
}

impl RouteTable {
    /// Reads the compact form.
    ///
    /// # Errors
    /// The lines that cannot be used, up to a limit.
    pub fn parse(text: &str) -> Result<Self, Vec<TableProblem>> {
        let (mut table, mut problems) = (Self::default(), Vec::new());
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        for (index, line) in text.lines().enumerate() {
            if let Err(message) = table.add_line(line) {
                problems.push(TableProblem { line: index + 1, message });
            }
            if problems.len() == MAX_PROBLEMS {
                let message = "the lines after this one are not verified: too many are wrong".to_owned();
                problems.push(TableProblem { line: index + 1, message });
                break;
            }
        }
        if problems.is_empty() { Ok(table) } else { Err(problems) }
    }

    fn add_line(&mut self, line: &str) -> Result<(), String> {
        if let Some((package, version)) = line.strip_prefix(MADE_FROM).and_then(|rest| rest.split_once(' ')) {
            self.made_from.insert(package.to_owned(), version.trim().to_owned());
        }
        if let Some(added) = self.added.add_line(line) {
            return added;
        }
        let mut words = line.split_whitespace();
        let Some(path) = words.next().filter(|word| !word.starts_with('#')) else { return Ok(()) };
        check_path(path)?;
        let mut methods: Vec<TableMethod> = Vec::new();
        for word in words {
            let (verb, method) = parse_method(word)?;
            if methods.iter().any(|known| known.verb == verb) {
                return Err(format!("'{path}' has {verb} twice"));
            }
            methods.push(TableMethod { template: format!("{verb} {path}").into(), verb, method });
        }
        if methods.is_empty() {
            return Err(format!("'{path}' has no method"));
        }
        if self.open_path.is_none() && !path.contains('{') && methods.iter().any(TableMethod::is_open_call) {
            self.open_path = Some(path.to_owned());
        }
        self.router.insert(path, methods.clone()).map_err(|error| error.to_string())?;
        self.methods.extend(methods);
        Ok(())
    }

    /// `GET /nodes/{node}/status` with its flags, in the order of the file.
    pub fn methods(&self) -> impl ExactSizeIterator<Item = (&str, ApiMethod)> {
        self.methods.iter().map(|known| (&*known.template, known.method))
    }

    /// The path of a call that a daemon answers without login, root or parameters.
    pub fn open_path(&self) -> Option<&str> {
        self.open_path.as_deref()
    }

    /// The method at a path of decoded segments joined by single slashes, beginning with one.
    pub fn find<'p>(&'p self, method: &str, path: &'p str) -> Option<RouteMatch<'p>> {
        let matched = self.router.at(path).ok()?;
        let found = matched.value.iter().find(|known| known.verb == method)?;
        let TableMethod { template, method, .. } = found;
        Some(RouteMatch { method: *method, template, parameters: matched.params })
    }

    /// `template` with each `{name}` replaced by the parameter that a path has for it.
    pub fn fill(&self, template: &str, path: &str) -> Option<String> {
        let matched = self.router.at(path).ok()?;
        let segments = template.split('/').map(|segment| {
            match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(name) => matched.params.get(name),
                None => Some(segment),
            }
        });
        Some(segments.collect::<Option<Vec<_>>>()?.join("/"))
    }
}

impl fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteTable").field("methods", &self.methods.len()).finish_non_exhaustive()
    }
}

fn check_path(path: &str) -> Result<(), String> {
    // A client resolves `.` and `..` before it sends a request (RFC 3986, section 5.2.4).
    let is_segment = |part: &str| !matches!(part, "" | "." | "..");
    let is_good = path == "/" || path.starts_with('/') && path.split('/').skip(1).all(is_segment);
    if is_good { Ok(()) } else { Err(format!("'{path}' is not a path such as /nodes/{{node}}/status")) }
}

/// `PUT:pn`.
///
/// # Errors
/// The method or a flag is unknown.
pub fn parse_method(word: &str) -> Result<(String, ApiMethod), String> {
    let (name, flags) = word.split_once(':').unwrap_or((word, ""));
    if !VERBS.contains(&name) {
        return Err(format!("'{word}': the method must be {}", VERBS.join(", ")));
    }
    let mut method = ApiMethod::default();
    for flag in flags.chars() {
        match flag {
            'p' => method.protected = true,
            'n' => method.home = NodeChoice::Node,
            'c' => method.home = NodeChoice::CheckNode,
            'm' => method.home = NodeChoice::Master,
            'o' => method.open = true,
            't' => method.no_token = true,
            'd' => method.kind = MethodKind::Download,
            'u' => method.kind = MethodKind::Upload,
            'w' => method.kind = MethodKind::Websocket,
            _ => return Err(format!("'{word}': unknown flag '{flag}'")),
        }
    }
    Ok((name.to_owned(), method))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row of the reference tables, with example values for its parameters.
    fn every_row_is_found(compact: &str, reference: &str) -> usize {
        let table = RouteTable::parse(compact).unwrap();
        let mut rows = 0;
        for line in reference.lines().skip(1) {
            let columns: Vec<_> = line.split('\t').collect();
            let [method, template] = [columns[0], columns[1]];
            let segments = template.split('/').map(|segment| match segment {
                "{node}" => "n2",
                "{volume}" => "local:iso/x.iso",
                "{cidr}" => "10.0.0.0/8",
                parameter if parameter.starts_with('{') => "example.1",
                literal => literal,
            });
            let path = segments.collect::<Vec<_>>().join("/");
            let Some(found) = table.find(method, &path) else { panic!("{method} {path} is not found") };
            let home = match (columns[3], columns[4]) {
                ("node", _) => NodeChoice::Node,
                ("master", _) => NodeChoice::Master,
                (_, "1") => NodeChoice::CheckNode,
                _ => NodeChoice::Here,
            };
            let expected = ApiMethod {
                home,
                protected: columns[2] == "1",
                no_token: columns[5] == "0",
                open: columns[6] == "world",
                kind: match (columns[7], columns[8], columns[9]) {
                    ("1", _, _) => MethodKind::Download,
                    (_, "1", _) => MethodKind::Upload,
                    (_, _, "1") => MethodKind::Websocket,
                    _ => MethodKind::Call,
                },
            };
            assert_eq!(found.method, expected, "{method} {path}");
            assert_eq!(
                found.parameter("node"),
                template.contains("{node}").then_some("n2"),
                "{method} {path}"
            );
            rows += 1;
        }
        rows
    }

    #[test]
    fn built_in_methods_match_the_reference() {
        let rows: Vec<_> = crate::config::built_in_profiles()
            .iter()
            .filter_map(|name| {
                let compact = crate::config::built_in_file(&format!("{name}.routes"))?;
                let reference = format!("{}/tests/data/routes/{name}.tsv", env!("CARGO_MANIFEST_DIR"));
                Some(every_row_is_found(compact, &std::fs::read_to_string(reference).unwrap()))
            })
            .collect();
        assert_eq!(rows, [426, 679]);
    }

    #[test]
    fn unlisted_routes_are_not_found() {
        let table = RouteTable::parse("# comment\n/a/{x} GET PUT:p\n\n/a/{x}/rest/{*more} GET\n").unwrap();
        assert!(table.find("GET", "/a/1").is_some());
        assert!(table.find("POST", "/a/1").is_none());
        assert!(table.find("GET", "/a").is_none());
        assert!(table.find("GET", "/a/1/rest/2/3").is_some());
        assert!(table.find("GET", "/a/1/other").is_none());
        let found = table.find("PUT", "/a/1").unwrap();
        assert_eq!(
            (&**found.template, found.parameter("x"), found.parameter("y")),
            ("PUT /a/{x}", Some("1"), None)
        );
    }

    #[test]
    fn every_wrong_line_is_named() {
        let text =
            "/a GET:z\n/b GET\nc GET\n/d FETCH\n/e\n/f GET GET:p\n/b PUT\n/g//h GET\n/g/.. GET\n/./g GET\n";
        let problems = RouteTable::parse(text).unwrap_err();
        let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [1, 3, 4, 5, 6, 7, 8, 9, 10], "{problems:?}");
        for (problem, part) in problems.iter().zip(["flag 'z'", "'c'", "'FETCH'", "no method", "GET twice"]) {
            assert!(problem.message.contains(part), "{problem:?}");
        }
    }

    #[test]
    fn a_file_of_wrong_lines_is_given_up() {
        let problems = RouteTable::parse(&"x\n".repeat(1000)).unwrap_err();
        assert_eq!(problems.len(), MAX_PROBLEMS + 1);
        let last = problems.last().unwrap();
        assert!(last.line == MAX_PROBLEMS && last.message.contains("not verified"), "{last:?}");
    }

    #[test]
    fn flags_are_written_as_they_are_read() {
        for flags in ["", "p", "pn", "m", "pto", "pnd", "cu", "nw"] {
            let (verb, method) = parse_method(&format!("GET:{flags}")).unwrap();
            assert_eq!((verb.as_str(), method.flags().as_str()), ("GET", flags));
        }
    }

    #[test]
    fn comments_name_the_packages() {
        let table = RouteTable::parse("# made from some-package 9.2.12-1\n# made\n/a GET\n").unwrap();
        assert_eq!(
            table.made_from.into_iter().collect::<Vec<_>>(),
            [("some-package".to_owned(), "9.2.12-1".to_owned())]
        );
    }
}
