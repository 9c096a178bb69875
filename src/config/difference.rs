//! The values in which one configuration differs from another, to recognise them in a third one.

use super::Config;
use super::layers::ResolvedValue;
use crate::config::diagnostic::{Diagnostic, ValueOrigin};

/// Values of a configuration that differ from those of another one.
#[derive(Clone, Debug, Default)]
pub struct ConfigDifference {
    settings: Vec<(&'static str, ResolvedValue)>,
    /// every key that is written in a `[[listener]]` table, if one of them makes a difference
    listeners: Option<Vec<(String, ResolvedValue)>>,
    /// where the first of these keys that differs is written
    listener_origin: Option<ValueOrigin>,
}

impl Config {
    /// The values of this configuration that differ from those of `before`.
    pub fn difference(&self, before: &Self) -> ConfigDifference {
        let pairs = self.effective.iter().zip(&before.effective);
        let settings = pairs.filter(|((_, now), (_, then))| now.text != then.text);
        let settings = settings.map(|((key, found), _)| (*key, found.clone())).collect();
        // An inherited value is among the settings.
        let differs = texts(&self.own_listener_keys) != texts(&before.own_listener_keys)
            && texts(&self.listener_keys) != texts(&before.listener_keys);
        let known = texts(&before.own_listener_keys);
        let is_new = |(key, found): &&(String, ResolvedValue)| !known.contains(&(key, &found.text));
        let own = &self.own_listener_keys;
        let first = own.iter().find(is_new).or_else(|| own.first()).filter(|_| differs);
        ConfigDifference {
            settings,
            listeners: differs.then(|| own.clone()),
            listener_origin: first.map(|(_, found)| found.origin.clone()),
        }
    }

    /// Keys whose value in effect differs from that of `before`, and the parts of the profile that differ.
    pub fn differences(&self, before: &Self) -> Vec<&'static str> {
        let product = (self.product != before.product).then_some("product");
        let mut keys: Vec<_> = self.difference(before).keys().chain(product).collect();
        let routes = self.routes.changed_key(&before.routes);
        keys.extend(routes.filter(|key| !keys.contains(key)));
        keys
    }

    /// Those of these values that are in effect here.
    pub fn held_of(&self, difference: &ConfigDifference) -> ConfigDifference {
        let is_held = |(key, mine): &&(&'static str, ResolvedValue)| {
            difference.settings.iter().any(|(known, found)| known == key && found.text == mine.text)
        };
        let has_listeners = difference
            .listeners
            .as_ref()
            .is_some_and(|wanted| texts(wanted) == texts(&self.own_listener_keys));
        ConfigDifference {
            settings: self.effective.iter().filter(is_held).cloned().collect(),
            listeners: has_listeners.then(|| self.own_listener_keys.clone()),
            listener_origin: difference.listener_origin.clone().filter(|_| has_listeners),
        }
    }
}

fn texts(keys: &[(String, ResolvedValue)]) -> Vec<(&str, &str)> {
    keys.iter().map(|(key, found)| (key.as_str(), found.text.as_str())).collect()
}

impl ConfigDifference {
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.listeners.is_none()
    }

    fn keys(&self) -> impl Iterator<Item = &'static str> {
        let listeners = self.listeners.as_ref().map(|_| "listener");
        self.settings.iter().map(|(key, _)| *key).chain(listeners)
    }

    /// Each key with the origin of its value: `acl.policy (/etc/nodegate/x.toml:3)`.
    pub fn origins(&self) -> Vec<String> {
        self.keys().map(|key| format!("{key} ({})", self.origin(key))).collect()
    }

    /// An error for each value, at its origin.
    pub fn problems(&self, message: &str) -> Vec<Diagnostic> {
        self.keys().map(|key| Diagnostic::error(self.origin(key), key, message)).collect()
    }

    fn origin(&self, key: &str) -> ValueOrigin {
        let own = self.settings.iter().find(|(known, _)| *known == key).map(|(_, found)| found);
        let own = own.map(|found| found.origin.clone());
        own.or_else(|| self.listener_origin.clone()).unwrap_or(ValueOrigin::Profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigSources;
    use crate::config::root::RootDirectory;

    #[test]
    fn values_that_are_still_held_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("etc/nodegate/pve.toml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let load = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let options =
                ConfigSources { root: RootDirectory::new(directory.path().to_owned()), sets: Vec::new() };
            Config::load("pve", &options).unwrap()
        };
        let before = load("");
        let table = "[[listener]]\nname = \"a\"\nport = 1\n";
        let taken = format!("workers = 5\n[acl]\npolicy = \"deny\"\n{table}");
        let difference = load(&taken).difference(&before);
        assert_eq!(load(&taken).differences(&before), ["acl.policy", "workers", "listener"]);
        let place = |line: u8| format!("{}:{line}", file.display());
        let expected = [("acl.policy", 3), ("workers", 1), ("listener", 5)];
        assert_eq!(difference.origins(), expected.map(|(key, line)| format!("{key} ({})", place(line))));
        for (text, held) in [
            (taken.clone(), &["acl.policy", "workers", "listener"][..]),
            (format!("limits.body = 1\n{taken}"), &["acl.policy", "workers", "listener"]),
            (taken.replace("deny", "allow"), &["workers", "listener"]),
            (taken.replace("port = 1", "port = 2"), &["acl.policy", "workers"]),
            (String::new(), &[]),
        ] {
            assert_eq!(load(&text).held_of(&difference).keys().collect::<Vec<_>>(), held, "{text}");
        }
        assert!(before.difference(&before).is_empty());
        // The line of the changed key, behind a table that has not changed.
        let two = |port: u8| load(&format!("{table}[[listener]]\nname = \"b\"\nport = {port}\n"));
        let changed = two(3).difference(&two(2));
        assert_eq!(changed.origins(), [format!("listener ({})", place(6))]);
        // A table that inherits the changed list has not changed, nor one that now writes what it inherited.
        let listed = |list: &str, own: &str| load(&format!("[acl]\ndeny_from = \"{list}\"\n{table}{own}"));
        let inheriting = listed("192.0.2.1", "");
        assert_eq!(listed("192.0.2.2", "").differences(&inheriting), ["acl.deny_from"]);
        let written = listed("192.0.2.1", "deny_from = \"192.0.2.1\"\n");
        assert!(written.difference(&inheriting).is_empty());
    }
}
