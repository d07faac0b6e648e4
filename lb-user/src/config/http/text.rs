//! Texts with variables and regular expressions, as they stand in the config: what is wrong in one is told at its place in
//! the string.

use super::super::problem::{Problem, Problems};
use super::super::section::At;
use std::ops::Range;
use tls_worker::api::routes::check_pattern;
use tls_worker::api::vars::Template;

/// What a text with variables is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Asks {
    /// The answer is not there yet.
    Request,
    /// It is.
    Answer,
}

/// A text with variables.
pub(in crate::config) fn template(at: &At<&str>, asks: Asks, p: &mut Problems) -> Option<Template> {
    match Template::parse(at.value) {
        Ok(template) if asks == Asks::Request && template.uses_response() => {
            p.push(
                Problem::error(at.span.clone(), "this asks for the answer, which is not there yet")
                    .help("variables of the answer are for `response_headers`"),
            );
            None
        }
        Ok(template) => Some(template),
        Err(error) => {
            p.push(Problem::error(within(at, error.at), error.problem).help(error.help));
            None
        }
    }
}

/// A regular expression.
pub(in crate::config) fn regex(at: &At<&str>, p: &mut Problems) -> Option<String> {
    match check_pattern(at.value) {
        Ok(()) => Some(at.value.to_owned()),
        Err(error) => {
            p.push(Problem::error(within(at, error.at), format!("not a regular expression: {}", error.problem)).help(
                "the syntax is that of the regex crate, for ASCII, without look-around and back references; in TOML \
                     write it in 'single quotes', where \\ stands for itself",
            ));
            None
        }
    }
}

/// A place in a string. One that is written with escapes is as a whole the place.
fn within(at: &At<&str>, range: Range<usize>) -> Range<usize> {
    if at.span.len() != at.value.len() || range.is_empty() && range.end != at.value.len() {
        return at.span.clone();
    }
    at.span.start + range.start..at.span.start + range.end
}
