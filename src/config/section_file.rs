//! Section files (`cluster.conf` and the like): a header `type: id`, then indented `key value` lines.

/// One section: its header and its lines in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Section {
    pub kind: String,
    pub id: String,
    pub entries: Vec<(String, String)>,
}

impl Section {
    pub fn value(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// The value of a key in the first section `section: id`.
pub fn find_value(text: &str, id: &str, key: &str) -> Option<String> {
    let sections = parse(text);
    let section = sections.iter().find(|section| section.kind == "section" && section.id == id)?;
    section.value(key).map(str::to_owned)
}

/// Reads every section. Comments (`#`) and blank lines are skipped, and so are lines that are not understood,
/// since newer products add lines that older readers do not know.
pub fn parse(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if line.starts_with([' ', '\t']) {
            let (key, value) = trimmed.split_once([' ', '\t']).unwrap_or((trimmed, ""));
            if let Some(section) = sections.last_mut() {
                section.entries.push((key.to_owned(), value.trim().to_owned()));
            }
        } else if let Some((kind, id)) = trimmed.split_once(':') {
            sections.push(Section {
                kind: kind.trim().to_owned(),
                id: id.trim().to_owned(),
                entries: Vec::new(),
            });
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_keep_their_order_and_their_values() {
        let text =
            "# x\nmaster: 1\n\tip 192.0.2.11\n\tname mg1\n\nsection: spamquar\n\tlifetime 9\n  note a b  c\n";
        let sections = parse(text);
        assert_eq!(sections.len(), 2);
        let (master, quarantine) = (sections.first(), sections.last());
        assert_eq!(master.map(|section| section.kind.as_str()), Some("master"));
        assert_eq!(master.and_then(|section| section.value("name")), Some("mg1"));
        assert_eq!(quarantine.and_then(|section| section.value("lifetime")), Some("9"));
        assert_eq!(quarantine.and_then(|section| section.value("note")), Some("a b  c"));
    }
}
