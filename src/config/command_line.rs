//! Commands that messages tell the user to run.

use crate::config::ConfigSources;

/// A command of nodegate for this profile, with the options of this run, to copy into a shell.
pub fn command_line(verb: &str, profile: &str, options: &ConfigSources) -> String {
    let mut line = format!("nodegate {verb} {}", quoted(profile));
    if !options.root.is_system() {
        let directory = quoted(&options.root.directory().to_string_lossy());
        line.extend([" --root ", directory.as_str()]);
    }
    for set in &options.sets {
        line.extend([" --set ", quoted(set).as_str()]);
    }
    line
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::root::RootDirectory;

    #[test]
    fn commands_have_the_options_of_the_run() {
        assert_eq!(command_line("check", "pve", &ConfigSources::default()), "nodegate check pve");
        let sets = vec!["listen.port=8007".to_owned(), "acl.deny_from=a b'c".to_owned()];
        let options = ConfigSources { root: RootDirectory::new("/srv/x".into()), sets };
        let expected =
            "nodegate reload pve --root /srv/x --set listen.port=8007 --set 'acl.deny_from=a b'\\''c'";
        assert_eq!(command_line("reload", "pve", &options), expected);
    }
}
