//! The syntax tree of a template.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::number::Number;
use super::text::TaintedText;

/// Consecutive statements.
pub(super) type Body = Vec<Statement>;

/// A whole template.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) body: Body,
    pub(super) blocks: BTreeMap<String, Body>,
    pub(super) metadata: Vec<(String, TaintedText)>,
    /// names that the template defines for filters
    pub(super) aliases: BTreeSet<String>,
    /// names that the template assigns anywhere
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
    /// assigns only to variables that are not true
    Default(Vec<Assignment>),
    /// assigns the output of statements to a variable
    Capture(Path, Body),
    If(Branches),
    Switch(Expression, Branches),
    For(Loop),
    While(Expression, Body),
    Next,
    Last,
    Return,
    Stop,
    Clear,
    /// a block without a name
    Block(Body),
    /// `INCLUDE`: the block has its own scope
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

/// Bodies by their conditions or cases.
#[derive(Debug)]
pub(super) struct Branches {
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
    /// a second name for the filter with its arguments
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
    /// types of errors; `None` catches all
    pub(super) handlers: Vec<(Option<String>, Body)>,
    pub(super) last: Body,
}

/// Arguments in brackets, or after a name.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Expression>,
    pub(super) named: Vec<(Expression, Expression)>,
    /// `a.b = c` assigns during the call
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
    /// the last evaluated value, as in Perl
    And(Vec<Expression>),
    Or(Vec<Expression>),
    /// `a < b <= c` compares neighbours
    Compare(Box<Expression>, Vec<(Comparison, Expression)>),
    /// operators of one precedence, from left to right
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
    /// integer division
    DivideWhole,
    Modulo,
}
