//! Text that a shell file may not contain, with the text to write instead.

#[derive(Debug, thiserror::Error)]
pub(super) enum ShellProblem {
    #[error("blanks around '=' are not supported; write NAME=\"value\"")]
    BlanksAroundEquals,
    #[error("'{0}' follows an assignment; quote a value that holds blanks: NAME=\"one two\"")]
    FollowsAssignment(String),
    #[error("'{0}' is a command, and commands are not run; write only NAME=\"value\"")]
    Command(String),
    #[error("other files are not read; write their assignments here")]
    Source,
    #[error("export takes names, no options: '{0}'; write export NAME=\"value\"")]
    ExportOption(String),
    #[error("export expands '{{'; quote the value")]
    ExportBrace,
    #[error("'{0}' cannot be a name: only letters, digits and '_', no digit first; write NAME=\"value\"")]
    Name(String),
    #[error("the name in '{0}' is quoted or computed; write NAME=\"value\"")]
    QuotedName(String),
    #[error("arrays are not supported; write NAME=\"value\"")]
    Array,
    #[error("there is nothing before this ';'; remove it")]
    EmptyCommand,
    #[error("'{0}' is not supported outside quotes; quote the value that holds it")]
    Operator(char),
    #[error("commands and arithmetic ('$(' and backquotes) are not run; write their result as the value")]
    Substitution,
    #[error("only plain ${{NAME}} is supported, without operators; write the value itself")]
    ParameterOperator,
    #[error("there are no arguments or special parameters here; write '\\$' for a plain '$'")]
    SpecialParameter,
    #[error("$'…' and $\"…\" are not supported; use plain quotes without the '$'")]
    DollarQuote,
    #[error("${0} is set by a shell, and there is none; write the value itself")]
    SetByTheShell(String),
    #[error("the value with ${0} in it is too long; write it without variables")]
    TooLong(String),
    #[error("'~' is not replaced by a home directory; write the full path, or quote it")]
    Tilde,
    #[error("nothing follows the backslash at the end of the file; remove it")]
    TrailingBackslash,
    #[error("the quote that opens here is never closed; close it")]
    Unterminated,
    #[error("this is not UTF-8; save the file in that encoding")]
    NotUtf8,
    #[error("a value cannot hold a NUL byte; remove it")]
    Nul,
}
