//! Expressions. Operators have Perl's precedence, because Template Toolkit translates them to Perl; `DIV` has that of
//! its grammar.

use super::Parser;
use crate::handler::page::template::TemplateError;
use crate::handler::page::template::ast::{Assignment, Comparison, Element, Expression, Operator, Path};

type OperandRule = fn(&mut Parser) -> Result<Expression, TemplateError>;

/// An operand, and the following operators and operands.
type OperandChain<T> = (Expression, Vec<(T, Expression)>);

fn computed(first: Expression, rest: Vec<(Operator, Expression)>) -> Expression {
    if rest.is_empty() { first } else { Expression::Compute(Box::new(first), rest) }
}

impl Parser {
    pub(super) fn expression(&mut self) -> Result<Expression, TemplateError> {
        let condition = self.list_of("OR", Self::conjunction, Expression::Or)?;
        if !self.takes("?") {
            return Ok(condition);
        }
        self.with_depth(|parser| {
            let yes = parser.expression()?;
            parser.expect(":")?;
            Ok(Expression::Choice(Box::new([condition, yes, parser.expression()?])))
        })
    }

    fn conjunction(&mut self) -> Result<Expression, TemplateError> {
        self.list_of("AND", Self::equality, Expression::And)
    }

    /// Parses `operand operator operand …` of one operator.
    fn list_of(
        &mut self,
        operator: &str,
        operand: OperandRule,
        combine: fn(Vec<Expression>) -> Expression,
    ) -> Result<Expression, TemplateError> {
        let first = operand(self)?;
        if !self.is_next(operator) {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.takes(operator) {
            operands.push(operand(self)?);
        }
        Ok(combine(operands))
    }

    /// Parses `operand operator operand …` of several operators with one precedence.
    fn chain<T: Copy>(
        &mut self,
        operators: &[(&str, T)],
        operand: OperandRule,
    ) -> Result<OperandChain<T>, TemplateError> {
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Some(operator) = self.take_operator(operators) {
            rest.push((operator, operand(self)?));
        }
        Ok((first, rest))
    }

    fn take_operator<T: Copy>(&mut self, operators: &[(&str, T)]) -> Option<T> {
        let (_, operator) = operators.iter().find(|(symbol, _)| self.is_next(symbol))?;
        self.next();
        Some(*operator)
    }

    fn equality(&mut self) -> Result<Expression, TemplateError> {
        const COMPARISONS: [(&str, Comparison); 2] = [("==", Comparison::Equal), ("!=", Comparison::Unequal)];
        self.comparison(&COMPARISONS, Self::order)
    }

    fn order(&mut self) -> Result<Expression, TemplateError> {
        const COMPARISONS: [(&str, Comparison); 4] = [
            ("<", Comparison::Less),
            (">", Comparison::Greater),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
        ];
        self.comparison(&COMPARISONS, Self::sum)
    }

    fn comparison(
        &mut self,
        comparisons: &[(&str, Comparison)],
        operand: OperandRule,
    ) -> Result<Expression, TemplateError> {
        let (first, rest) = self.chain(comparisons, operand)?;
        Ok(if rest.is_empty() { first } else { Expression::Compare(Box::new(first), rest) })
    }

    fn sum(&mut self) -> Result<Expression, TemplateError> {
        const OPERATORS: [(&str, Operator); 3] =
            [("+", Operator::Add), ("-", Operator::Subtract), ("_", Operator::Join)];
        let (first, rest) = self.chain(&OPERATORS, Self::product)?;
        Ok(computed(first, rest))
    }

    fn product(&mut self) -> Result<Expression, TemplateError> {
        const OPERATORS: [(&str, Operator); 3] =
            [("*", Operator::Multiply), ("/", Operator::Divide), ("%", Operator::Modulo)];
        let (first, mut rest) = self.quotient()?;
        while let Some(operator) = self.take_operator(&OPERATORS) {
            let (operand, more) = self.quotient()?;
            rest.push((operator, operand));
            rest.extend(more);
        }
        Ok(computed(first, rest))
    }

    /// `DIV` is a function in Perl. Its operands are its neighbours with their `MOD`s.
    fn quotient(&mut self) -> Result<OperandChain<Operator>, TemplateError> {
        let (first, mut rest) = self.modulos()?;
        let mut divided = Vec::new();
        while self.takes("DIV") {
            let (right, more) = self.modulos()?;
            divided.append(&mut rest);
            divided.push((Operator::DivideWhole, right));
            rest = more;
        }
        Ok((computed(first, divided), rest))
    }

    fn modulos(&mut self) -> Result<OperandChain<Operator>, TemplateError> {
        self.chain(&[("MOD", Operator::Modulo)], Self::negation)
    }

    fn negation(&mut self) -> Result<Expression, TemplateError> {
        if self.takes("NOT") {
            return self.with_depth(|parser| Ok(Expression::Not(Box::new(parser.negation()?))));
        }
        if self.takes("(") {
            return self.with_depth(|parser| {
                let inner = parser.assignment_or_expression()?;
                parser.expect(")")?;
                Ok(inner)
            });
        }
        self.term()
    }

    fn assignment_or_expression(&mut self) -> Result<Expression, TemplateError> {
        let inner = self.expression()?;
        if !self.takes("=") {
            return Ok(inner);
        }
        let target = self.target(inner)?;
        let value = self.expression()?;
        Ok(Expression::Assign(Box::new(Assignment { target, value })))
    }

    /// The left side of `=`.
    pub(super) fn target(&mut self, expression: Expression) -> Result<Path, TemplateError> {
        let path = if let Expression::Variable(path) = expression {
            path
        } else if let Expression::Literal(_) = expression {
            vec![Element { name: expression, arguments: None }]
        } else {
            return Err(self.error("'=' is not supported here"));
        };
        if let Some(first) = path.first() {
            self.note_assigned(&first.name);
        }
        Ok(path)
    }

    pub(super) fn note_assigned(&mut self, name: &Expression) {
        if let Expression::Literal(name) = name {
            self.program.assigned.insert(name.as_str().to_owned());
        }
    }
}
