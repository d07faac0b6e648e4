//! Texts with variables, read where they stand.

use super::super::problem::{Problem, Problems};
use super::super::section::At;
use tls_worker::api::vars::Template;

/// When a text is filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum When {
    /// Before the backend has answered.
    Request,
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
        Err(error) => {
            // Escapes in the text move what follows them; then the whole text is the place.
            let exact = at.span.len() == at.value.len();
            let place = match exact {
                true => at.span.start + error.at.start..at.span.start + error.at.end,
                false => at.span.clone(),
            };
            Problem::error(place, error.problem).help(error.help)
        }
    };
    p.push(problem);
    None
}
