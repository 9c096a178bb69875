//! Reads `/etc/default` files, which are shell assignments, without a shell.
//!
//! The result is that of bash in an empty environment (its manual: "Shell Parameters", "Quoting", "Shell
//! Expansions"): quotes, escapes, continued lines, `export`, `NAME+=`, `$NAME` and `${NAME}`. nodegate runs no
//! command. Text that needs a shell is an error that says what to write instead.

mod problem;
mod reader;

use problem::ShellProblem;
use reader::ShellReader;

/// One `NAME=value`, with the value as bash would hold it afterwards (for `NAME+=x` the whole joined value).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellAssignment {
    /// name of the variable
    pub name: String,
    /// value without quotes
    pub value: String,
    /// Where the assignment starts; the first line is 1.
    pub line: usize,
}

/// Text that the file may not contain. The message names it and says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ShellError {
    /// from 1
    pub line: usize,
    /// the reason
    pub message: String,
}

/// Reads all assignments in order, and every problem at once.
///
/// A command with a problem assigns nothing; reading goes on with the next line. A byte order mark and the
/// carriage returns of CRLF lines are dropped. Comments may be in any encoding.
pub fn parse(text: &[u8]) -> (Vec<ShellAssignment>, Vec<ShellError>) {
    let text = String::from_utf8_lossy(text).replace("\r\n", "\n");
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let reader = ShellReader::new(text.strip_suffix('\r').unwrap_or(text));
    let mut parser = ShellParser { reader, assignments: Vec::new(), command_start: 0, exporting: false };
    let mut errors = Vec::new();
    while parser.reader.peek().is_some() {
        if let Err(problem) = parser.command() {
            errors.push(ShellError { line: parser.reader.line(), message: problem.to_string() });
            parser.assignments.truncate(parser.command_start);
            parser.reader.skip_line();
        }
    }
    (parser.assignments, errors)
}

/// A variable may not grow beyond this by naming others, so that a few lines of `A=$A$A` cannot exhaust
/// memory.
const MAX_EXPANSION_BYTES: usize = 64 * 1024;

/// Variables that bash sets itself. Treating them as empty would be a silent difference. `BASH…` is tested
/// separately.
const SET_BY_THE_SHELL: &str = "\
    _ COMP_WORDBREAKS DIRSTACK EPOCHREALTIME EPOCHSECONDS EUID GROUPS HISTCMD HOSTNAME HOSTTYPE IFS LINENO \
    MACHTYPE OPTERR OPTIND OSTYPE PATH PIPESTATUS PPID PS4 PWD RANDOM SECONDS SHELL SHELLOPTS SHLVL SRANDOM \
    TERM UID";

/// A method that fails leaves the reader on the line of the problem.
struct ShellParser<'a> {
    reader: ShellReader<'a>,
    assignments: Vec<ShellAssignment>,
    /// The number of assignments before the current command.
    command_start: usize,
    /// The current command is an `export`, which expands all its values before it assigns the first.
    exporting: bool,
}

impl ShellParser<'_> {
    /// Reads up to and including the next line end or `;`.
    fn command(&mut self) -> Result<(), ShellProblem> {
        self.command_start = self.assignments.len();
        self.exporting = false;
        let mut first = true;
        loop {
            self.reader.skip_blanks();
            match self.reader.peek() {
                Some('#') => self.reader.skip_comment(),
                Some(';') if first => return Err(ShellProblem::EmptyCommand),
                None | Some('\n' | ';') => {
                    self.reader.bump();
                    return Ok(());
                }
                Some(_) => {
                    self.word(first)?;
                    first = false;
                }
            }
        }
    }

    fn word(&mut self, first: bool) -> Result<(), ShellProblem> {
        let start = self.reader;
        let name = self.reader.name();
        if name.is_empty() {
            return Err(self.why_not_an_assignment(first));
        }
        if let Some(append) = self.reader.assignment_operator() {
            let before = if append { lookup(&self.assignments, &name).unwrap_or_default() } else { "" };
            let value = before.to_owned() + &self.value()?;
            self.assignments.push(ShellAssignment { name, value, line: start.line() });
            return Ok(());
        }
        let alone = self.reader.at_word_end();
        if alone && first && name == "export" {
            self.exporting = true;
        } else if !(alone && self.exporting) {
            self.reader = start;
            return Err(self.why_not_an_assignment(first));
        }
        Ok(())
    }

    /// The word at the reader is not an assignment; guesses the intention.
    fn why_not_an_assignment(&self, first: bool) -> ShellProblem {
        let mut ahead = self.reader;
        let word = ahead.bare_word();
        ahead.skip_blanks();
        let command = self.assignments.get(self.command_start..).unwrap_or_default();
        let follows_empty_value = command.last().is_some_and(|assignment| assignment.value.is_empty());
        if word.starts_with('=') || ahead.peek() == Some('=') || follows_empty_value {
            return ShellProblem::BlanksAroundEquals;
        }
        match word.split_once('=') {
            None if word.is_empty() => ShellProblem::Operator(ahead.peek().unwrap_or_default()),
            _ if !first && !self.exporting => ShellProblem::FollowsAssignment(word),
            Some((name, _)) if name.ends_with(']') => ShellProblem::Array,
            Some((name, _)) if name.contains(['"', '\'', '\\', '$']) => ShellProblem::QuotedName(word),
            Some((name, _)) => ShellProblem::Name(name.to_owned()),
            None if self.exporting => ShellProblem::ExportOption(word),
            None if word == "." || word == "source" => ShellProblem::Source,
            None => ShellProblem::Command(word),
        }
    }

    fn value(&mut self) -> Result<String, ShellProblem> {
        let mut value = String::new();
        let mut tilde_expands = true;
        while let Some(character) = self.reader.peek() {
            match character {
                ' ' | '\t' | '\n' | ';' => break,
                '\'' => self.single_quoted(&mut value)?,
                '"' => self.double_quoted(&mut value)?,
                '$' => self.dollar(&mut value, false)?,
                '\\' => {
                    self.reader.bump();
                    if self.reader.peek_raw().is_none() {
                        return Err(ShellProblem::TrailingBackslash);
                    }
                    self.take_into(&mut value)?;
                }
                '`' => return Err(ShellProblem::Substitution),
                '(' if value.is_empty() => return Err(ShellProblem::Array),
                '&' | '|' | '<' | '>' | '(' | ')' => return Err(ShellProblem::Operator(character)),
                '~' if tilde_expands => return Err(ShellProblem::Tilde),
                '{' if self.exporting => return Err(ShellProblem::ExportBrace),
                _ => self.take_into(&mut value)?,
            }
            tilde_expands = character == ':';
        }
        Ok(value)
    }

    fn single_quoted(&mut self, value: &mut String) -> Result<(), ShellProblem> {
        let opening = self.reader;
        self.reader.bump();
        while let Some(character) = self.reader.peek_raw() {
            if character == '\'' {
                self.reader.bump();
                return Ok(());
            }
            self.take_into(value)?;
        }
        self.reader = opening;
        Err(ShellProblem::Unterminated)
    }

    fn double_quoted(&mut self, value: &mut String) -> Result<(), ShellProblem> {
        let opening = self.reader;
        self.reader.bump();
        while let Some(character) = self.reader.peek() {
            match character {
                '"' => {
                    self.reader.bump();
                    return Ok(());
                }
                '$' => self.dollar(value, true)?,
                '`' => return Err(ShellProblem::Substitution),
                '\\' => {
                    self.reader.bump();
                    match self.reader.peek_raw() {
                        Some('$' | '`' | '"' | '\\') => self.take_into(value)?,
                        Some(_) | None => value.push('\\'),
                    }
                }
                _ => self.take_into(value)?,
            }
        }
        self.reader = opening;
        Err(ShellProblem::Unterminated)
    }

    /// A `$` outside single quotes: a variable, or itself where bash takes it so.
    fn dollar(&mut self, value: &mut String, quoted: bool) -> Result<(), ShellProblem> {
        self.reader.bump();
        match self.reader.peek() {
            Some('{') => {
                self.reader.bump();
                let name = self.reader.name();
                if name.is_empty() || self.reader.peek() != Some('}') {
                    return Err(ShellProblem::ParameterOperator);
                }
                self.reader.bump();
                self.expand(name, value)
            }
            Some('(' | '[') => Err(ShellProblem::Substitution),
            Some('\'' | '"') if !quoted => Err(ShellProblem::DollarQuote),
            Some('0'..='9' | '?' | '$' | '!' | '#' | '*' | '@' | '-') => Err(ShellProblem::SpecialParameter),
            Some('A'..='Z' | 'a'..='z' | '_') => {
                let name = self.reader.name();
                self.expand(name, value)
            }
            Some(_) | None => {
                value.push('$');
                Ok(())
            }
        }
    }

    fn expand(&self, name: String, value: &mut String) -> Result<(), ShellProblem> {
        let visible = if self.exporting { self.command_start } else { self.assignments.len() };
        match lookup(self.assignments.get(..visible).unwrap_or_default(), &name) {
            Some(expansion) if value.len() + expansion.len() > MAX_EXPANSION_BYTES => {
                Err(ShellProblem::TooLong(name))
            }
            Some(expansion) => {
                value.push_str(expansion);
                Ok(())
            }
            None if name.starts_with("BASH") || SET_BY_THE_SHELL.split(' ').any(|known| known == name) => {
                Err(ShellProblem::SetByTheShell(name))
            }
            None => Ok(()),
        }
    }

    /// Takes the next character as it is.
    fn take_into(&mut self, value: &mut String) -> Result<(), ShellProblem> {
        match self.reader.peek_raw() {
            // The mark of the lossy decoding; in a file that is UTF-8 it is the trace of an earlier lossy
            // one.
            Some('\u{fffd}') => return Err(ShellProblem::NotUtf8),
            Some('\0') => return Err(ShellProblem::Nul),
            Some(character) => value.push(character),
            None => {}
        }
        self.reader.bump();
        Ok(())
    }
}

/// The value that the latest assignment of `name` gave it.
fn lookup<'a>(assignments: &'a [ShellAssignment], name: &str) -> Option<&'a str> {
    let latest = assignments.iter().rev().find(|assignment| assignment.name == name)?;
    Some(&latest.value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::process::Command;

    use super::*;

    fn values(text: &str) -> Vec<(String, String)> {
        let (assignments, errors) = parse(text.as_bytes());
        assert_eq!(errors, [], "{text:?}");
        assignments.into_iter().map(|assignment| (assignment.name, assignment.value)).collect()
    }

    #[test]
    fn assignments_keep_their_order_and_line() {
        let text = "\u{feff}# comment\r\nA=1\r\n\r\nexport B='x\r\ny' C=\\\r\nz; D=${A}2\r\nA+=3 # more\r";
        let (assignments, errors) = parse(text.as_bytes());
        let found: Vec<_> = assignments.iter().map(|a| (a.name.as_str(), a.value.as_str(), a.line)).collect();
        assert_eq!(found, [("A", "1", 2), ("B", "x\ny", 4), ("C", "z", 5), ("D", "12", 6), ("A", "13", 7)]);
        assert_eq!(errors, []);
    }

    #[test]
    fn examples_of_the_original_manual_parse() {
        let text = "ALLOW_FROM=\"10.0.0.1-10.0.0.5,192.168.0.0/22\"\nDENY_FROM=\"all\"\n\
            POLICY=\"allow\"\nMAX_WORKERS=5\n";
        let expected = [
            ("ALLOW_FROM", "10.0.0.1-10.0.0.5,192.168.0.0/22"),
            ("DENY_FROM", "all"),
            ("POLICY", "allow"),
            ("MAX_WORKERS", "5"),
        ];
        assert_eq!(values(text), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn shell_constructs_are_rejected_with_a_hint() {
        let table = [
            ("A = b", "blanks around '='"),
            ("A =b", "blanks around '='"),
            ("A= b", "blanks around '='"),
            ("export A = b", "blanks around '='"),
            ("A=one two", "NAME=\"one two\""),
            ("A=1 cmd --x", "'cmd' follows an assignment"),
            ("A=1 export B=2", "'export' follows an assignment"),
            ("foo bar", "'foo' is a command"),
            ("if true; then", "'if' is a command"),
            (". /etc/x", "other files are not read"),
            ("source /etc/x", "other files are not read"),
            ("f() { :; }", "'f' is a command"),
            ("export -p", "no options: '-p'"),
            ("export 'A=b'", "quoted or computed"),
            ("export A={a,b}", "quote the value"),
            ("1A=x", "'1A' cannot be a name"),
            ("A-B=x", "'A-B' cannot be a name"),
            ("A[0]=x", "arrays are not supported"),
            ("A=(a b)", "arrays are not supported"),
            ("A=$(hostname)", "are not run"),
            ("A=\"$(hostname)\"", "are not run"),
            ("A=$((1+1))", "are not run"),
            ("A=$[1+1]", "are not run"),
            ("A=`hostname`", "are not run"),
            ("A=\"`hostname`\"", "are not run"),
            ("A=${B:-x}", "only plain ${NAME}"),
            ("A=${#B}", "only plain ${NAME}"),
            ("A=\"${B", "only plain ${NAME}"),
            ("A=$1", "special parameters"),
            ("A=$$", "special parameters"),
            ("A=$'x'", "use plain quotes"),
            ("A=$\"x\"", "use plain quotes"),
            ("A=$HOSTNAME", "$HOSTNAME is set by a shell"),
            ("A=$BASH_VERSION", "$BASH_VERSION is set by a shell"),
            ("A=~/x", "full path"),
            ("A=/x:~/y", "full path"),
            ("A=1 > /tmp/x", "'>' is not supported"),
            ("A=a|b", "'|' is not supported"),
            ("A=1 &", "'&' is not supported"),
            ("; A=1", "remove it"),
            ("A=1;; B=2", "remove it"),
            ("A=a\\", "nothing follows"),
            ("A='x", "never closed"),
            ("A=\"x", "never closed"),
            ("A=\"x\0\"", "NUL byte"),
            ("A=\u{fffd}", "not UTF-8"),
        ];
        for (line, hint) in table {
            let (assignments, errors) = parse(format!("X=1\n{line}").as_bytes());
            assert_eq!(errors.len(), 1, "{line}: {errors:?}");
            assert_eq!(errors[0].line, 2, "{line}");
            assert!(errors[0].message.contains(hint), "{line}: {}", errors[0]);
            assert!(assignments.iter().all(|assignment| assignment.value != "x"), "{line}");
        }
    }

    #[test]
    fn parsing_continues_after_each_reported_problem() {
        let text = b"A=$(x\nB=2\nC=3 run \\\n  it\nD='\xe4'\n# caf\xe9\nE=\"open\nF=6\n";
        let (assignments, errors) = parse(text);
        let names: Vec<&str> = assignments.iter().map(|assignment| assignment.name.as_str()).collect();
        let lines: Vec<usize> = errors.iter().map(|error| error.line).collect();
        assert_eq!(names, ["B", "F"]);
        assert_eq!(lines, [1, 3, 5, 7]);
    }

    #[test]
    fn a_problem_names_its_line_within_values() {
        for (text, hint) in [(&b"A=\"one\ntwo `x`\"\n"[..], "are not run"), (b"A='one\n\xff'\n", "not UTF-8")]
        {
            let (assignments, errors) = parse(text);
            assert_eq!((assignments.len(), errors.len(), errors[0].line), (0, 1, 2));
            assert!(errors[0].message.contains(hint));
        }
    }

    #[test]
    fn variables_that_double_each_other_stop_growing() {
        let text = format!("A={}\n{}", "x".repeat(1000), "A=$A$A\n".repeat(60));
        let (assignments, errors) = parse(text.as_bytes());
        assert!(errors[0].message.contains("too long"));
        assert!(assignments.iter().all(|assignment| assignment.value.len() <= MAX_EXPANSION_BYTES));
    }

    /// The variables of bash after it has read each of the files, in an empty environment.
    fn bash(texts: &[&str]) -> Vec<BTreeMap<String, String>> {
        const SCRIPT: &str = r#"for file; do (
            before=" $(compgen -v | tr '\n' ' ') file before name PIPESTATUS "
            . "$file" 2>&1 >/dev/null || exit 9
            for name in $(compgen -v); do
                case "$before" in *" $name "*) ;; *) printf '%s\0%s\0' "$name" "${!name}";; esac
            done
            ) 2>&1; printf '\1\0'; done"#;
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<_> = (0..texts.len()).map(|index| folder.path().join(index.to_string())).collect();
        for (file, text) in files.iter().zip(texts) {
            std::fs::write(file, text).unwrap();
        }
        let output = Command::new("bash")
            .args(["--noprofile", "--norc", "-c", SCRIPT, "bash"])
            .args(&files)
            .env_clear()
            .output()
            .expect("bash is installed");
        let output = String::from_utf8(output.stdout).unwrap();
        let mut sections: Vec<&str> = output.split("\u{1}\0").collect();
        assert_eq!(sections.pop(), Some(""));
        assert_eq!(sections.len(), texts.len());
        let variables = |section: &str| {
            let fields: Vec<&str> = section.split_terminator('\0').collect();
            fields
                .chunks(2)
                .map(|pair| (pair[0].to_owned(), pair.get(1).copied().unwrap_or("?").to_owned()))
                .collect()
        };
        sections.into_iter().map(variables).collect()
    }

    fn assert_bash_agrees(texts: &[&str]) {
        for (text, expected) in texts.iter().zip(bash(texts)) {
            let found: BTreeMap<String, String> = values(text).into_iter().collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[rustfmt::skip]
    const ACCEPTED: &[&str] = &[
        "", "\n\n", "# only\n", "A=", "A=\n", "A=b", "A=b\n", " A=b", "\tA=b ", "A=b;", "A=b ; B=c",
        "A=b;B=c\n", "A=1 B=2", "A=1\tB=$A", "A='x y'", "A=\"x y\"", "A=''", "A=\"\"", "A=\"\"''",
        "A=a\"b\"'c'", "A='a'b\"c\"d", "A=\"it's\"", "A='say \"hi\"'", "A='back\\slash'", "A=back\\\\slash",
        "A=a\\ b", "A=\\#x", "A=\\'", "A=\\\"", "A=\\$B", "A=\\n",
        "A=\"\\$ \\` \\\" \\\\ \\a \\! \\' \\n\"", "A='$B'", "A=x#y", "A=x #y", "A= #y", "A=#y",
        "A=1 # a \\\nB=2", "A=a\\\nb", "A=\"a\\\nb\"", "A='a\\\nb'", "A=\"a\nb\"", "A='a\n\nb'", "A\\\nB=1",
        "A=1 \\\n  B=2", "A=a\\\\\nB=b", "A=a\\\\\\\nB=b", "A=\"a\\\\\\\nb\"", "export A=b",
        "export A=b B='c d'", "export A=b; B=$A", "A=1; export A", "export\tA=b", "export \\\nA=b",
        "export A=1 B=$A", "A=0; export A=1 B=$A", "export A=1 A+=2", "A=x y=z", "A=x\nA=y", "A=x\nA+=y",
        "A+=y", "A=x; A+='y z'; A+=$A", "A=1\nB=$A", "A=1; B=${A}2", "A=1; B=\"$A 2\"", "A=1; B=\"${A}2\"",
        "B=$A", "B=x${A}y", "B=\"$A\"", "A='a  b'; B=$A", "A='a  b'; B=\"$A\"", "A='a  b'; export B=$A",
        "A='*'; B=$A", "A=*", "A=[a-z]?", "A={a,b}", "A=a{1..3}", "A=$", "A=a$", "A=\"$\"", "A=\"a$\"b",
        "A=$%", "A=$=x", "A=$.x", "A=\"$'x'\"", "A=\"$ x\"", "A=1; B=\"$\\\nA\"", "A=1; B=$\\\nA",
        "A=1; B=${\\\nA}", "A=a=b", "A==b", "A=a+=b", "A=!x", "A=%", "A=a~", "A=a:b~", "A='~'", "A=\"~/x\"",
        "A=\\~", "A=\\:~", "A=\"x:\"~", "A=:\"~\"", "A=@x,y:z/0-9._", "A=]", "A=}", "A={", "A=^x", "A=ä",
        "A='日本 語'", "export A='{a,b}'", "_A1=x; B=$_A1-", "a=1 A=2", "if=1", "export=1", "A=1;#c",
        "A=\"a;b#c&d|e<f>(g)\"", "A=\u{b}x", "A=\"*.${A}\"", "A=x\\\n", "A=1\\;B=2",
        "ALLOW_FROM=\"10.0.0.1-10.0.0.5,192.168.0.0/22\"\nDENY_FROM=\"all\"\nLISTEN_IP=\"fe80::1%vmbr0\"\n",
    ];

    #[test]
    fn bash_reads_the_same_values() {
        assert!(ACCEPTED.len() >= 60);
        assert_bash_agrees(ACCEPTED);
    }

    #[test]
    fn bash_agrees_on_accepted_random_text() {
        const PIECES: &[&str] = &[
            "A=", "B=", "A+=", "export ", " ", "\n", ";", "\\", "\\\n", "'", "\"", "$", "${A}", "$B", "#",
            "~", ":", "x", "7", "=", "{", "}", ",", "!", "\t", "A", "é", "$A", "\n", "B=", "+", "*",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        let mut texts = Vec::new();
        while texts.len() < 300 {
            let pieces: String = (0..10).filter_map(|_| random.choice(PIECES).copied()).collect();
            let text = format!("A={pieces}");
            if parse(text.as_bytes()).1.is_empty() {
                texts.push(text);
            }
        }
        assert_bash_agrees(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
