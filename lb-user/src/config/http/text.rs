//! Texts with variables and regular expressions, read where they stand: what is wrong in one is told at its place in the
//! string.

use super::super::problem::{Problem, Problems};
use super::super::section::At;
use std::ops::Range;
use tls_worker::api::routes::check_pattern;
use tls_worker::api::vars::Template;

/// When a text is filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum When {
    /// Before the backend has answered.
    Request,
    /// When it has.
    Answer,
    /// When everything is known.
    End,
}

/// A text with variables that are known by then; what is wrong in it is told with its place.
pub(in crate::config) fn template(p: &mut Problems, at: &At<&str>, when: When) -> Option<String> {
    let problem = match Template::parse(at.value) {
        Ok(template) if when == When::Request && template.uses_response() => {
            Problem::error(at.span.clone(), "this asks for the answer, which there is none of yet")
                .help("use variables of the request, the client or TLS alone")
        }
        Ok(_) => return Some(at.value.to_owned()),
        Err(error) => Problem::error(within(at, error.at), error.problem).help(error.help),
    };
    p.push(problem);
    None
}

/// A regular expression.
pub(in crate::config) fn regex(p: &mut Problems, at: &At<&str>) -> Option<String> {
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

/// A place in a string. Escapes in the text move what follows them; then the whole text is the place.
fn within(at: &At<&str>, range: Range<usize>) -> Range<usize> {
    match at.span.len() == at.value.len() {
        true => at.span.start + range.start..at.span.start + range.end,
        false => at.span.clone(),
    }
}
