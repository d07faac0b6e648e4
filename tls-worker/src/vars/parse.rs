//! From a text to its expressions.

use super::Expr;
use super::function::NAMES;
use super::source::{self, Source};
use std::ops::Range;
use winnow::ascii::multispace0;
use winnow::combinator::{alt, delimited, separated, terminated};
use winnow::prelude::*;
use winnow::token::take_while;

/// Longest text, bytes.
const MAX_TEXT: usize = 4 << 10;
/// Deepest nesting of functions.
const MAX_DEPTH: usize = 16;

/// What is wrong with a text with variables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {help}")]
pub struct TemplateError {
    /// Where in the text, bytes.
    pub at: Range<usize>,
    /// What.
    pub problem: String,
    /// What to write instead.
    pub help: String,
}

/// As it is written, before anything has a meaning.
#[derive(Debug)]
enum Raw<'t> {
    Text(String, &'t str),
    Name(&'t str),
    Call(&'t str, Vec<Raw<'t>>),
}

pub(super) fn template(text: &str) -> Result<Vec<Expr>, TemplateError> {
    if text.len() > MAX_TEXT {
        let help = format!("write at most {MAX_TEXT} bytes");
        return Err(TemplateError { at: 0..text.len(), problem: "the text is too long".into(), help });
    }
    let mut pieces: Vec<Expr> = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            plain.push('$');
            rest = after;
            continue;
        }
        let place = text.len() - rest.len();
        let Some(inner) = rest.strip_prefix("${") else {
            return Err(TemplateError {
                at: place..place + 1,
                problem: "a `$` stands alone".into(),
                help: "write `${name}` for a variable, `$$` for the sign itself".into(),
            });
        };
        let deepest = inner.bytes().take_while(|byte| *byte != b'}').filter(|byte| *byte == b'(').count();
        if deepest > MAX_DEPTH {
            let help = format!("at most {MAX_DEPTH} stand within one another");
            return Err(TemplateError { at: place..text.len(), problem: "too many functions".into(), help });
        }
        let mut left = inner;
        let parsed = terminated(delimited(multispace0, raw, multispace0), '}').parse_next(&mut left);
        let raw = parsed.map_err(|_| TemplateError {
            at: place..text.len(),
            problem: format!("{:?} is not understood", clipped(rest)),
            help: "write ${name} or ${function(argument, 'text')}".into(),
        })?;
        if !plain.is_empty() {
            pieces.push(Expr::Text(std::mem::take(&mut plain).into()));
        }
        pieces.push(meaning(text, &raw)?);
        rest = left;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Expr::Text(plain.into()));
    }
    Ok(pieces)
}

fn clipped(text: &str) -> String {
    text.chars().take(40).collect()
}

fn word<'t>(input: &mut &'t str) -> ModalResult<&'t str> {
    take_while(1.., |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '-').parse_next(input)
}

/// `'text'`; a quote within is written twice.
fn quoted<'t>(input: &mut &'t str) -> ModalResult<Raw<'t>> {
    let whole = *input;
    let mut text = String::new();
    '\''.parse_next(input)?;
    loop {
        text.push_str(take_while(0.., |c| c != '\'').parse_next(input)?);
        '\''.parse_next(input)?;
        if input.starts_with('\'') {
            '\''.parse_next(input)?;
            text.push('\'');
            continue;
        }
        return Ok(Raw::Text(text, &whole[..whole.len() - input.len()]));
    }
}

fn raw<'t>(input: &mut &'t str) -> ModalResult<Raw<'t>> {
    alt((quoted, call, word.map(Raw::Name))).parse_next(input)
}

fn call<'t>(input: &mut &'t str) -> ModalResult<Raw<'t>> {
    let name = terminated(word, '(').parse_next(input)?;
    let argument = delimited(multispace0, raw, multispace0);
    let arguments = terminated(separated(0.., argument, ','), ')').parse_next(input)?;
    Ok(Raw::Call(name, arguments))
}

fn meaning(text: &str, raw: &Raw<'_>) -> Result<Expr, TemplateError> {
    let at = |part: &str| {
        let begin = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        begin..begin + part.len()
    };
    let wrong = |part: &str, problem: String, help: String| TemplateError { at: at(part), problem, help };
    match raw {
        Raw::Text(value, _) => Ok(Expr::Text(value.as_str().into())),
        Raw::Name(name) => Source::of(name)
            .map(Expr::Source)
            .ok_or_else(|| wrong(name, format!("there is no variable `{name}`"), suggestion(name, &variables()))),
        Raw::Call(name, arguments) => {
            if let [Raw::Text(key, place)] = &arguments[..]
                && let Some(source) = Source::keyed(name, key)
            {
                return source
                    .map(Expr::Source)
                    .map_err(|must| wrong(place, format!("`{name}` cannot have {key:?}"), format!("write {must}")));
            }
            if source::KEYED.contains(name) {
                let problem = format!("`{name}` takes one text");
                return Err(wrong(name, problem, format!("write {name}('NAME')")));
            }
            let Some((_, function, takes)) = NAMES.iter().find(|(known, ..)| known == name) else {
                let known: Vec<String> =
                    source::KEYED.iter().copied().chain(NAMES.iter().map(|(n, ..)| *n)).map(str::to_owned).collect();
                return Err(wrong(name, format!("there is no function `{name}`"), suggestion(name, &known)));
            };
            if arguments.len() != *takes {
                let problem = format!("`{name}` takes {takes} argument(s), and has {}", arguments.len());
                return Err(wrong(name, problem, "separate arguments by commas, and put texts in 'quotes'".into()));
            }
            let arguments = arguments.iter().map(|argument| meaning(text, argument)).collect::<Result<_, _>>()?;
            Ok(Expr::Call(*function, arguments))
        }
    }
}

fn variables() -> Vec<String> {
    super::names().0
}

/// The known name that is meant, or all of them.
fn suggestion(given: &str, known: &[String]) -> String {
    let near = known.iter().map(|name| (strsim::jaro_winkler(given, name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((likeness, name)) if likeness > 0.8 => format!("did you mean `{name}`?"),
        _ => format!("known are: {}", known.join(", ")),
    }
}
