//! `METHOD /path/{parameter}` patterns of a profile.

use http::Method;

/// The method by which routes and rules know a request: that of HEAD is GET.
pub fn verb(method: &Method) -> &str {
    if *method == Method::HEAD { "GET" } else { method.as_str() }
}

/// A method and a path template; `{name}` stands for exactly one segment.
#[derive(Clone, Debug)]
pub struct PathPattern {
    method: String,
    segments: Vec<PatternSegment>,
}

#[derive(Clone, Debug)]
enum PatternSegment {
    Literal(String),
    Parameter,
}

impl PathPattern {
    /// Reads `POST /nodes/{node}/x`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (method, path) =
            text.split_once(' ').ok_or_else(|| format!("'{text}': write METHOD /path/{{parameter}}"))?;
        let segment = |text: &str| match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(_) => PatternSegment::Parameter,
            None => PatternSegment::Literal(text.to_owned()),
        };
        let segments = path.split('/').filter(|part| !part.is_empty()).map(segment).collect();
        Ok(Self { method: method.to_owned(), segments })
    }

    pub fn matches<'s>(&self, method: &str, mut segments: impl Iterator<Item = &'s str>) -> bool {
        self.method == method
            && self.segments.iter().all(|pattern| match (pattern, segments.next()) {
                (PatternSegment::Literal(literal), Some(segment)) => literal == segment,
                (PatternSegment::Parameter, Some(_)) => true,
                (_, None) => false,
            })
            && segments.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_one_segment() {
        let pattern = PathPattern::parse("POST /nodes/{node}/upload").unwrap();
        assert!(pattern.matches("POST", "nodes/n1/upload".split('/')));
        assert!(!pattern.matches("GET", "nodes/n1/upload".split('/')));
        assert!(!pattern.matches("POST", "nodes/n1/x/upload".split('/')));
        assert!(!pattern.matches("POST", "nodes/n1/upload/x".split('/')));
        assert!(!pattern.matches("POST", "nodes/n1".split('/')));
    }
}
