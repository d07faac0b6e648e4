//! Lines as commands: a verb, what it is about, words, and options with their values.

use super::lex::{Line, Word};
use std::cell::Cell;

/// What commands are about that this import knows, as they are written.
const KINDS: [&str; 19] = [
    "lb vserver",
    "cs vserver",
    "ssl vserver",
    "lb monitor",
    "cs policy",
    "cs action",
    "ssl certKey",
    "ssl action",
    "ssl policy",
    "ssl serviceGroup",
    "ssl service",
    "policy httpCallout",
    "responder policy",
    "responder action",
    "rewrite policy",
    "rewrite action",
    "serviceGroup",
    "service",
    "server",
];
/// Names that one line with `[1-3]` stands for, at the most.
const MAX_RANGE: u32 = 1024;

/// A command.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) line: usize,
    /// In small letters.
    pub(super) verb: String,
    /// One of [`KINDS`]; none: something else.
    pub(super) kind: Option<&'static str>,
    /// What stands behind the kind; behind the verb, where there is none.
    pub(super) words: Vec<String>,
    pub(super) options: Vec<Flag>,
}

/// An option.
#[derive(Debug, Clone)]
pub(super) struct Flag {
    pub(super) line: usize,
    /// In small letters, without `-`.
    pub(super) name: String,
    pub(super) values: Vec<String>,
    /// It was carried over, or means nothing here.
    pub(super) seen: Cell<bool>,
}

/// The commands of a line: more than one where names have `[1-3]` in them.
pub(super) fn commands(line: &Line) -> Result<Vec<Command>, String> {
    let Some((verb, rest)) = line.words.split_first() else { return Ok(Vec::new()) };
    let kind = KINDS.into_iter().find(|kind| {
        let words: Vec<&str> = kind.split(' ').collect();
        words.len() <= rest.len() && words.iter().zip(rest).all(|(a, b)| a.eq_ignore_ascii_case(&b.text))
    });
    let rest = &rest[kind.map_or(0, |kind| kind.split(' ').count())..];
    let is_option = |word: &Word| {
        let mut letters = word.text.chars();
        !word.quoted && letters.next() == Some('-') && letters.next().is_some_and(|c| c.is_ascii_alphabetic())
    };
    let (mut words, mut options): (Vec<String>, Vec<Flag>) = (Vec::new(), Vec::new());
    for word in rest {
        match options.last_mut() {
            _ if is_option(word) => {
                let name = word.text[1..].to_ascii_lowercase();
                options.push(Flag { line: line.number, name, values: Vec::new(), seen: Cell::new(false) });
            }
            Some(option) => option.values.push(word.text.clone()),
            None => words.push(word.text.clone()),
        }
    }
    let one = Command { line: line.number, verb: verb.text.to_ascii_lowercase(), kind, words, options };
    if kind.is_none() || !one.words.iter().any(|word| range(word).is_some()) {
        return Ok(vec![one]);
    }
    several(&one)
}

/// A command for each name of its ranges, which go along with one another.
fn several(command: &Command) -> Result<Vec<Command>, String> {
    let ranges: Vec<_> = command.words.iter().map(|word| range(word)).collect();
    let mut lengths = ranges.iter().flatten().map(|(_, from, to, _)| (to - from).saturating_add(1));
    let length = lengths.next().unwrap_or(1);
    if length > MAX_RANGE || lengths.any(|other| other != length) {
        return Err("its ranges are not equally long, or too long".into());
    }
    let nth = |n: u32| {
        let words = command.words.iter().zip(&ranges).map(|(word, range)| match range {
            Some((before, from, _, after)) => format!("{before}{}{after}", from + n),
            None => word.clone(),
        });
        Command { words: words.collect(), ..command.clone() }
    };
    Ok((0..length).map(nth).collect())
}

/// `before[1-3]after`
fn range(word: &str) -> Option<(&str, u32, u32, &str)> {
    let (before, rest) = word.split_once('[')?;
    let (range, after) = rest.split_once(']')?;
    let (from, to) = range.split_once('-')?;
    let (from, to) = (from.parse().ok()?, to.parse().ok()?);
    (from <= to).then_some((before, from, to, after))
}
