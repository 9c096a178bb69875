//! Expressions. Operators bind as in Perl, which Template Toolkit turns them into; `DIV` binds as its grammar says.

use super::Parser;
use crate::handler::page::template::TemplateError;
use crate::handler::page::template::ast::{Assignment, Comparison, Element, Expression, Operator, Path};

/// An operand, and the operators and operands that follow it.
type OperandChain = (Expression, Vec<(Operator, Expression)>);

fn computed(first: Expression, rest: Vec<(Operator, Expression)>) -> Expression {
    if rest.is_empty() { first } else { Expression::Compute(Box::new(first), rest) }
}

impl Parser {
    pub(super) fn expression(&mut self) -> Result<Expression, TemplateError> {
        let condition = self.alternatives()?;
        if !self.takes("?") {
            return Ok(condition);
        }
        self.deeper(|parser| {
            let yes = parser.expression()?;
            parser.expect(":")?;
            Ok(Expression::Choice(Box::new([condition, yes, parser.expression()?])))
        })
    }

    fn alternatives(&mut self) -> Result<Expression, TemplateError> {
        self.list_of("OR", Self::conjunction, Expression::Or)
    }

    fn conjunction(&mut self) -> Result<Expression, TemplateError> {
        self.list_of("AND", Self::equality, Expression::And)
    }

    /// `operand operator operand …` of one operator
    fn list_of(
        &mut self,
        operator: &str,
        operand: fn(&mut Self) -> Result<Expression, TemplateError>,
        combine: fn(Vec<Expression>) -> Expression,
    ) -> Result<Expression, TemplateError> {
        let first = operand(self)?;
        let mut operands = vec![first];
        while self.takes(operator) {
            operands.push(operand(self)?);
        }
        Ok(match operands.pop() {
            Some(only) if operands.is_empty() => only,
            Some(last) => {
                operands.push(last);
                combine(operands)
            }
            None => combine(operands),
        })
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
        operand: fn(&mut Self) -> Result<Expression, TemplateError>,
    ) -> Result<Expression, TemplateError> {
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Some((_, comparison)) = comparisons.iter().find(|(symbol, _)| self.is_next(symbol)) {
            self.next();
            rest.push((*comparison, operand(self)?));
        }
        Ok(if rest.is_empty() { first } else { Expression::Compare(Box::new(first), rest) })
    }

    fn sum(&mut self) -> Result<Expression, TemplateError> {
        const OPERATORS: [(&str, Operator); 3] =
            [("+", Operator::Add), ("-", Operator::Subtract), ("_", Operator::Join)];
        self.chain(&OPERATORS, Self::product)
    }

    fn product(&mut self) -> Result<Expression, TemplateError> {
        const OPERATORS: [(&str, Operator); 3] =
            [("*", Operator::Multiply), ("/", Operator::Divide), ("%", Operator::Modulo)];
        let (first, mut rest) = self.quotient()?;
        while let Some((_, operator)) = OPERATORS.iter().find(|(symbol, _)| self.is_next(symbol)) {
            self.next();
            let (operand, more) = self.quotient()?;
            rest.push((*operator, operand));
            rest.extend(more);
        }
        Ok(computed(first, rest))
    }

    /// `DIV` is a function of its own in Perl. Its operands are what stands beside it, with their `MOD`s.
    fn quotient(&mut self) -> Result<OperandChain, TemplateError> {
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

    fn modulos(&mut self) -> Result<OperandChain, TemplateError> {
        let first = self.negation()?;
        let mut rest = Vec::new();
        while self.takes("MOD") {
            rest.push((Operator::Modulo, self.negation()?));
        }
        Ok((first, rest))
    }

    fn chain(
        &mut self,
        operators: &[(&str, Operator)],
        operand: fn(&mut Self) -> Result<Expression, TemplateError>,
    ) -> Result<Expression, TemplateError> {
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Some((_, operator)) = operators.iter().find(|(symbol, _)| self.is_next(symbol)) {
            self.next();
            rest.push((*operator, operand(self)?));
        }
        Ok(computed(first, rest))
    }

    fn negation(&mut self) -> Result<Expression, TemplateError> {
        if self.takes("NOT") {
            return self.deeper(|parser| Ok(Expression::Not(Box::new(parser.negation()?))));
        }
        if self.takes("(") {
            return self.deeper(|parser| {
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

    /// What stands left of `=`.
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
