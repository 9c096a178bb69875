//! What a parsed template consists of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::number::Number;
use super::text::TaintedText;

/// Statements one after the other.
pub(super) type Body = Vec<Statement>;

/// A whole template.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) body: Body,
    pub(super) blocks: BTreeMap<String, Body>,
    pub(super) metadata: Vec<(String, TaintedText)>,
    /// names that the template gives to filters
    pub(super) aliases: BTreeSet<String>,
    /// names that the template sets itself, whether or not it gets there
    pub(super) assigned: BTreeSet<String>,
}

#[derive(Debug)]
pub(super) struct Statement {
    pub(super) line: usize,
    pub(super) action: Action,
}

#[derive(Debug)]
pub(super) enum Action {
    Text(TaintedText),
    Output(Expression),
    Call(Expression),
    Assign(Vec<Assignment>),
    /// only what is not true yet
    Default(Vec<Assignment>),
    /// a variable gets what a statement writes
    Capture(Path, Body),
    If(ConditionBranches),
    Switch(Expression, SwitchCases),
    For(Loop),
    While(Expression, Body),
    Next,
    Last,
    Return,
    Stop,
    Clear,
    /// a block without a name
    Block(Body),
    /// `INCLUDE`: the block's variables are its own
    Include(NameWithArguments),
    Process(NameWithArguments),
    Wrapper(NameWithArguments, Body),
    Filter(FilterCall, Body),
    Macro(String, Arc<Macro>),
    UseDate {
        variable: Expression,
        arguments: Arguments,
    },
    Try(Try),
    Throw(NameWithArguments),
}

#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) target: Path,
    pub(super) value: Expression,
}

#[derive(Debug)]
pub(super) struct ConditionBranches {
    pub(super) conditions: Vec<(Expression, Body)>,
    pub(super) otherwise: Body,
}

#[derive(Debug)]
pub(super) struct SwitchCases {
    pub(super) cases: Vec<(Expression, Body)>,
    pub(super) otherwise: Body,
}

#[derive(Debug)]
pub(super) struct Loop {
    /// without one, the keys of a hash become variables
    pub(super) variable: Option<String>,
    pub(super) list: Expression,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) struct NameWithArguments {
    pub(super) names: Vec<Expression>,
    pub(super) arguments: Arguments,
}

#[derive(Debug)]
pub(super) struct FilterCall {
    pub(super) name: Expression,
    pub(super) arguments: Arguments,
    /// a name under which the filter can be used again
    pub(super) alias: Option<Expression>,
}

#[derive(Debug)]
pub(super) struct Macro {
    pub(super) parameters: Option<Vec<String>>,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) struct Try {
    pub(super) body: Body,
    /// kinds of errors; `None` catches all
    pub(super) handlers: Vec<(Option<String>, Body)>,
    pub(super) last: Body,
}

/// Arguments in brackets, or behind a name.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Expression>,
    pub(super) named: Vec<(Expression, Expression)>,
    /// `a.b = c`: an assignment on the way
    pub(super) assigned: Vec<Assignment>,
}

/// `a.b(c).d`
pub(super) type Path = Vec<Element>;

#[derive(Debug)]
pub(super) struct Element {
    pub(super) name: Expression,
    pub(super) arguments: Option<Arguments>,
}

#[derive(Debug)]
pub(super) enum Expression {
    Literal(Arc<TaintedText>),
    Number(Number),
    Variable(Path),
    Quoted(Vec<Expression>),
    List(Vec<Expression>),
    Range(Box<[Expression; 2]>),
    Hash(Vec<(Expression, Expression)>),
    Assign(Box<Assignment>),
    Not(Box<Expression>),
    /// the last value that decides, as in Perl
    And(Vec<Expression>),
    Or(Vec<Expression>),
    /// `a < b <= c`, each beside the next
    Compare(Box<Expression>, Vec<(Comparison, Expression)>),
    /// operators of one rank, from left to right
    Compute(Box<Expression>, Vec<(Operator, Expression)>),
    Choice(Box<[Expression; 3]>),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    Greater,
    LessOrEqual,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Operator {
    Join,
    Add,
    Subtract,
    Multiply,
    Divide,
    /// without a fraction
    DivideWhole,
    Modulo,
}
