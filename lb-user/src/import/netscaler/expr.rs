//! Expressions of policies, parsed: `HTTP.REQ.URL.STARTSWITH("/a") && CLIENT.SSL.CLIENT_CERT.EXISTS`.

use winnow::Parser as _;
use winnow::ascii::{digit1, multispace0};
use winnow::combinator::{alt, delimited, opt, preceded, repeat, separated, terminated};
use winnow::error::ModalResult;
use winnow::token::{none_of, take_while};

/// Longer ones the appliance does not take either.
const MAX: usize = 1_499;
/// Parentheses within one another; a parser that calls itself has a bound.
const MAX_DEPTH: usize = 32;

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expr {
    /// `a || b`
    Or(Vec<Expr>),
    /// `a && b`
    And(Vec<Expr>),
    /// `!a`
    Not(Box<Expr>),
    /// `a + b`
    Concat(Vec<Expr>),
    /// `a == b`, or another comparison.
    Compare(Box<Expr>, String, Box<Expr>),
    /// `"a"`
    Text(String),
    /// `HTTP.REQ.HEADER("a")`, of a name or of what stands in parentheses.
    Chain(Option<Box<Expr>>, Vec<Call>),
}

/// A part of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// In capitals.
    pub(super) name: String,
    /// In parentheses.
    pub(super) arguments: Vec<Expr>,
}

/// Read all of it.
pub(super) fn parse(text: &str) -> Result<Expr, String> {
    let (mut depth, mut deepest) = (0_usize, 0);
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if text.len() > MAX || deepest > MAX_DEPTH {
        return Err("the expression is too long".into());
    }
    terminated(or, multispace0).parse(text).map_err(|error| {
        let at = error.offset();
        let rest: String = text[at..].chars().take(20).collect();
        format!("the expression cannot be read from {rest:?} on")
    })
}

fn spaced<'i, T>(
    inner: impl winnow::Parser<&'i str, T, winnow::error::ErrMode<winnow::error::ContextError>>,
) -> impl winnow::Parser<&'i str, T, winnow::error::ErrMode<winnow::error::ContextError>> {
    preceded(multispace0, inner)
}

fn one_or(mut list: Vec<Expr>, many: fn(Vec<Expr>) -> Expr) -> Expr {
    match list.len() {
        1 => list.remove(0),
        _ => many(list),
    }
}

fn or(input: &mut &str) -> ModalResult<Expr> {
    separated(1.., and, spaced("||")).map(|list| one_or(list, Expr::Or)).parse_next(input)
}

fn and(input: &mut &str) -> ModalResult<Expr> {
    separated(1.., compare, spaced("&&")).map(|list| one_or(list, Expr::And)).parse_next(input)
}

fn compare(input: &mut &str) -> ModalResult<Expr> {
    let left = concat(input)?;
    let operator = opt(spaced(alt(("==", "!=", ">=", "<=", ">", "<")))).parse_next(input)?;
    Ok(match operator {
        Some(operator) => Expr::Compare(Box::new(left), operator.to_owned(), Box::new(concat(input)?)),
        None => left,
    })
}

fn concat(input: &mut &str) -> ModalResult<Expr> {
    separated(1.., unary, spaced("+")).map(|list| one_or(list, Expr::Concat)).parse_next(input)
}

fn unary(input: &mut &str) -> ModalResult<Expr> {
    let nots: Vec<&str> = repeat(0.., spaced("!")).parse_next(input)?;
    let inner = chain(input)?;
    Ok(if nots.len() % 2 == 1 { Expr::Not(Box::new(inner)) } else { inner })
}

fn chain(input: &mut &str) -> ModalResult<Expr> {
    let base = spaced(alt((
        delimited('(', or, spaced(')')).map(Some),
        text.map(|text| Some(Expr::Text(text))),
        |_: &mut &str| Ok(None),
    )))
    .parse_next(input)?;
    let calls: Vec<Call> = match &base {
        Some(_) => repeat(0.., preceded('.', call)).parse_next(input)?,
        None => separated(1.., call, '.').parse_next(input)?,
    };
    Ok(match base {
        Some(base) if calls.is_empty() => base,
        base => Expr::Chain(base.map(Box::new), calls),
    })
}

fn call(input: &mut &str) -> ModalResult<Call> {
    let name = take_while(1.., |c: char| c.is_ascii_alphanumeric() || "_$-/*:".contains(c));
    let arguments = delimited('(', separated(0.., or, spaced(',')), spaced(')'));
    (spaced(name), opt(arguments))
        .map(|(name, arguments): (&str, Option<Vec<Expr>>)| Call {
            name: name.to_ascii_uppercase(),
            arguments: arguments.unwrap_or_default(),
        })
        .parse_next(input)
}

fn text(input: &mut &str) -> ModalResult<String> {
    let character = alt((preceded('\\', none_of('\0')), none_of(['"', '\\'])));
    delimited('"', repeat(0.., character), '"').parse_next(input)
}

/// What a name in parentheses was written as, such as an address or a number: `CLIENT.IP.SRC.EQ(10.0.0.1)`.
pub(super) fn plain(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Text(text) => Some(text.clone()),
        Expr::Chain(None, calls) if calls.iter().all(|call| call.arguments.is_empty()) => {
            Some(calls.iter().map(|call| call.name.as_str()).collect::<Vec<_>>().join("."))
        }
        _ => None,
    }
}

/// A number.
pub(super) fn number(expr: &Expr) -> Option<u32> {
    let text = plain(expr)?;
    digit1::<&str, winnow::error::ErrMode<winnow::error::ContextError>>.parse(&text).ok()?.parse().ok()
}
