//! Lines and words of a NetScaler's configuration.
//!
//! ```text
//! line := verb group [type] word* (-key value*)*
//! word := "…" | '…' | q<d>…<d> | bare      a bare word has the spaces that stand within its parentheses
//! ```
//! Published configurations have lost their backslashes: quotes stand inside quotes. Such a word ends at a quote behind
//! which nothing or a space comes and before which every parenthesis is closed; that it was read so is told.

use crate::import::note::Notes;
use winnow::Parser as _;
use winnow::ascii::space0;
use winnow::combinator::{alt, preceded, repeat};
use winnow::error::{ContextError, ErrMode, ModalResult};
use winnow::token::any;

/// Verbs of the appliance. A line that begins with none of them goes on with the one before.
const VERBS: [&str; 12] =
    ["add", "set", "bind", "unbind", "link", "unlink", "enable", "disable", "unset", "rm", "create", "apply"];

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// From 1.
    pub number: usize,
    /// Without quotes.
    pub words: Vec<Word>,
}

/// A word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Without quotes.
    pub text: String,
    /// It stood in quotes: a `-` does not make it an option.
    pub quoted: bool,
    /// Its quotes did not match.
    pub repaired: bool,
}

/// Whether the values of an option of this name are for nobody's eyes.
pub(super) fn is_secret(option: &str) -> bool {
    let option = option.to_ascii_lowercase();
    ["password", "passcrypt", "passphrase", "radkey", "secret"].iter().any(|word| option.contains(word))
}

/// All lines that say something.
pub(super) fn lines(text: &str, notes: &Notes) -> Vec<Line> {
    let mut joined: Vec<(usize, String)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let first = line.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        match joined.last_mut() {
            Some((_, before)) if !VERBS.contains(&first.as_str()) => {
                notes.repaired(number, "no command begins here: it is read as the rest of the line before");
                before.push(' ');
                before.push_str(line);
            }
            _ => joined.push((number, line.to_owned())),
        }
    }
    let read = joined.into_iter().map(|(number, text)| {
        let words = words(&text);
        for (at, word) in words.iter().enumerate().filter(|(_, word)| word.repaired) {
            let option = at.checked_sub(1).and_then(|before| words.get(before));
            let text = match option.is_some_and(|option| is_secret(&option.text)) {
                true => "(not shown)",
                false => &word.text,
            };
            notes.repaired(number, format!("quotes inside quotes; read as {text}"));
        }
        Line { number, words }
    });
    read.collect()
}

fn words(line: &str) -> Vec<Word> {
    // A word takes at least a character of what is not empty, so that this ends at the end.
    repeat(0.., preceded(space0, word)).parse_next(&mut &*line).unwrap_or_default()
}

fn word(input: &mut &str) -> ModalResult<Word> {
    alt((delimited_word, |input: &mut &str| quoted(input, '"'), |input: &mut &str| quoted(input, '\''), bare))
        .parse_next(input)
}

fn nothing<T>() -> ModalResult<T> {
    Err(ErrMode::Backtrack(ContextError::new()))
}

/// `q{…}`: nothing in it is special.
fn delimited_word(input: &mut &str) -> ModalResult<Word> {
    let Some(open) = input.strip_prefix('q').and_then(|rest| rest.chars().next()) else { return nothing() };
    let close = match open {
        '{' => '}',
        '(' => ')',
        '[' => ']',
        '<' => '>',
        '/' | '|' | '~' | '$' | '^' | '+' | '@' | '%' => open,
        _ => return nothing(),
    };
    let start = 1 + open.len_utf8();
    let Some(length) = input[start..].find(close) else { return nothing() };
    let text = input[start..start + length].to_owned();
    *input = &input[start + length + close.len_utf8()..];
    Ok(Word { text, quoted: true, repaired: false })
}

fn quoted(input: &mut &str, quote: char) -> ModalResult<Word> {
    let Some(rest) = input.strip_prefix(quote) else { return nothing() };
    let marks = quotes(rest, quote);
    let ends = |mark: &&Mark| rest[mark.at + 1..].chars().next().is_none_or(char::is_whitespace);
    let good = marks.first().filter(ends).filter(|mark| mark.depth == 0);
    let mended = || marks.iter().filter(ends).find(|mark| mark.depth == 0);
    // Parentheses that do not match prove nothing: then the first that can be an end, or the end of the line.
    let last = || marks.iter().find(ends);
    let end = good.or_else(mended).or_else(last).map(|mark| mark.at);
    let inside = &rest[..end.unwrap_or(rest.len())];
    let repaired = end.is_none() || marks.first().is_some_and(|mark| Some(mark.at) != end);
    let text = unescape(inside, quote);
    // Both quotes are one byte.
    *input = &input[1 + inside.len() + usize::from(end.is_some())..];
    Ok(Word { text, quoted: true, repaired })
}

/// A quote that no backslash stands before.
struct Mark {
    at: usize,
    /// Parentheses that are open there.
    depth: i32,
}

fn quotes(text: &str, quote: char) -> Vec<Mark> {
    let (mut marks, mut depth, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' => depth -= 1,
            c if c == quote => marks.push(Mark { at, depth }),
            _ => {}
        }
    }
    marks
}

/// `\"`, `\'`, `\\`, `\n`, `\r`, `\t`. What else stands behind a backslash is an expression's.
fn unescape(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some(escaped) if escaped == quote || escaped == '\\' => out.push(escaped),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

fn bare(input: &mut &str) -> ModalResult<Word> {
    let (mut depth, mut inside, mut text) = (0, false, String::new());
    let mut rest = *input;
    while let Ok(c) = any::<&str, ErrMode<ContextError>>.parse_next(&mut rest) {
        match c {
            '"' => inside = !inside,
            '(' if !inside => depth += 1,
            ')' if !inside => depth -= 1,
            c if c.is_whitespace() && depth <= 0 && !inside => break,
            _ => {}
        }
        text.push(c);
    }
    if text.is_empty() {
        return nothing();
    }
    *input = &input[text.len()..];
    Ok(Word { text, quoted: false, repaired: false })
}
