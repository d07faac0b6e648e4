//! `compression` of a service or a route: a table, or `false`.

use super::super::problem::{Problem, Problems};
use super::super::scalar::Wrong;
use super::super::section::Section;
use tls_worker::api::{ALL_CODINGS, Coding, Compression};
use toml_span::value::ValueInner;

/// Texts that nginx, Apache and CDNs compress, and that a stream of small events is not among.
const TYPES: [&str; 12] = [
    "text/html",
    "text/css",
    "text/plain",
    "text/xml",
    "text/javascript",
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/xml",
    "application/wasm",
    "image/svg+xml",
];
/// Most media types.
const MAX_TYPES: usize = 64;
/// What gains nothing, and costs.
const COMPRESSED: [&str; 6] =
    ["image/png", "image/jpeg", "image/webp", "application/zip", "application/gzip", "video/*"];

/// What the key says; `of_service` where it is not there.
pub(in crate::config) fn compression(
    section: &mut Section<'_>,
    p: &mut Problems,
    of_service: Option<&Compression>,
) -> Option<Compression> {
    match section.value("compression").map(|value| (value, value.as_ref())) {
        None => of_service.cloned(),
        Some((_, ValueInner::Boolean(false))) => None,
        Some((_, ValueInner::Boolean(true))) => Some(table(Section::absent("compression"), p)),
        Some((value, _)) => {
            let title = section.title.replace(']', ".compression]");
            Section::of(p, title, value.span.into(), value).map(|inner| table(inner, p))
        }
    }
}

fn table(mut section: Section<'_>, p: &mut Problems) -> Compression {
    let codings = section.parsed_list(p, "algorithms", coding);
    if section.is_empty_list("algorithms") {
        p.push(
            Problem::error(section.span_of("algorithms"), "no algorithm is left")
                .help("write compression = false to compress nothing"),
        );
    }
    let codings = match codings {
        Some(list) => list.into_iter().map(|at| at.value).collect(),
        None => vec![Coding::Zstd, Coding::Br, Coding::Gzip],
    };
    let types = section.parsed_list(p, "types", media_type);
    if let Some(list) = &types {
        for at in list.iter().filter(|at| COMPRESSED.contains(&at.value.as_str())) {
            p.push(
                Problem::warning(at.span.clone(), format!("{:?} is compressed already", at.value))
                    .help("leave it out: it becomes no smaller, and costs time"),
            );
        }
        if list.len() > MAX_TYPES {
            p.push(
                Problem::error(section.span_of("types"), format!("{} types are too many", list.len()))
                    .help(format!("write at most {MAX_TYPES}; \"text/*\" stands for all of a kind")),
            );
        }
    }
    let types = match types {
        Some(list) => list.into_iter().map(|at| at.value).collect(),
        None => TYPES.map(str::to_owned).into(),
    };
    let min_size = section.size(p, "min_size", 1..=16 << 20).unwrap_or(1024);
    let at_once = section.integer(p, "at_once", 1..=65_536).unwrap_or(256);
    section.finish(p);
    Compression { codings, types, min_size, at_once }
}

fn coding(text: &str) -> Result<Coding, Wrong> {
    ALL_CODINGS.into_iter().find(|coding| coding.name() == text).ok_or_else(|| {
        Wrong::new(format!("{text:?} is no algorithm that is known"), "write \"zstd\", \"br\" or \"gzip\"")
    })
}

/// `text/html`, `text/*`
fn media_type(text: &str) -> Result<String, Wrong> {
    let token =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b));
    match text.split_once('/') {
        Some((kind, sub)) if token(kind) && (sub == "*" || token(sub)) => Ok(text.to_ascii_lowercase()),
        _ => Err(Wrong::new(
            format!("{text:?} is no media type"),
            "write one without parameters, such as \"text/html\", or \"text/*\"",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_read() {
        assert_eq!(media_type("Text/HTML").unwrap(), "text/html");
        assert_eq!(media_type("text/*").unwrap(), "text/*");
        assert_eq!(media_type("image/svg+xml").unwrap(), "image/svg+xml");
        for bad in ["", "text", "*/*", "*", "text/", "/html", "text/html; charset=utf-8", "a b/c"] {
            assert!(media_type(bad).is_err(), "{bad}");
        }
        assert!(TYPES.iter().all(|known| media_type(known).is_ok_and(|read| read == *known)));
    }
}
