//! `request_headers` and `response_headers`: what is set, added and removed.

use super::super::problem::{Problem, Problems};
use super::super::scalar::{self, Wrong};
use super::super::section::{Section, string};
use super::text::{When, template};
use tls_worker::api::vars::Template;
use tls_worker::api::{HeaderAction, HeaderChange, changeable_header};

/// Most changes of one kind.
const MAX_CHANGES: usize = 64;

/// Changes in the order they are made: removed, set, added.
pub(super) fn changes(section: &mut Section<'_>, key: &'static str, when: When, p: &mut Problems) -> Vec<HeaderAction> {
    let Some(mut inner) = section.section(p, key) else { return Vec::new() };
    let mut changes = Vec::new();
    for at in inner.parsed_list(p, "remove", changeable).unwrap_or_default() {
        changes.push(HeaderAction { name: at.value, change: HeaderChange::Remove });
    }
    for (key, make) in [("set", HeaderChange::Set as fn(String) -> HeaderChange), ("add", HeaderChange::Add)] {
        let Some(table) = inner.section(p, key) else { continue };
        for (name, value) in table.entries() {
            let known = changeable(name.value).map_err(|wrong| p.push(wrong.at(name.span))).ok();
            let text = string(p, value, name.value);
            let good = text.as_ref().and_then(|at| {
                template(p, at, when)?;
                let template = Template::parse(at.value).ok()?;
                let value = template.constant().map(hyper::header::HeaderValue::from_str);
                if matches!(value, Some(Err(_))) {
                    p.push(
                        Problem::error(at.span.clone(), "this cannot be the value of a header")
                            .help("write printable characters on one line"),
                    );
                    return None;
                }
                Some(at.value.to_owned())
            });
            let (Some(name), Some(text)) = (known, good) else { continue };
            changes.push(HeaderAction { name, change: make(text) });
        }
    }
    if inner.entries().is_empty() {
        p.push(
            Problem::error(section.span_of(key), format!("`{key}` changes nothing"))
                .help("write { set = { \"x-name\" = \"value\" } }, `add` or `remove`"),
        );
    }
    if changes.len() > MAX_CHANGES {
        p.push(
            Problem::error(section.span_of(key), format!("{} changes are too many", changes.len()))
                .help(format!("write at most {MAX_CHANGES}")),
        );
    }
    inner.finish(p);
    changes
}

fn changeable(text: &str) -> Result<String, Wrong> {
    let name = scalar::header_name(text)?;
    changeable_header(&name)
        .map_err(|why| Wrong::new(format!("the header {name:?} cannot be changed: {why}"), "remove it"))?;
    Ok(name)
}
