//! `hsts`: the value of `Strict-Transport-Security` (RFC 6797, 6.1).

use super::super::problem::{Problem, Problems};
use super::super::section::Section;
use std::ops::RangeInclusive;
use std::time::Duration;
use toml_span::value::ValueInner;

const DAY: u64 = 86_400;
const YEAR: Duration = Duration::from_secs(365 * DAY);
/// Zero takes the promise back.
const AGES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3_660 * DAY);

/// None: the key is not there. Some of none: it is switched off.
pub(super) fn hsts(section: &mut Section<'_>, p: &mut Problems) -> Option<Option<String>> {
    let path = format!("{} hsts", section.title);
    let value = section.value("hsts")?;
    if let ValueInner::Boolean(on) = value.as_ref() {
        return Some(on.then(|| format!("max-age={}", YEAR.as_secs())));
    }
    if !matches!(value.as_ref(), ValueInner::Table(_)) {
        p.push(
            Problem::error(value.span.into(), format!("`{path}` must be true, false or a table")).help(
                "write hsts = true, or hsts = { max_age = \"365d\", include_subdomains = true, preload = false }",
            ),
        );
        return None;
    }
    let mut section = Section::of(p, path, value.span.into(), value)?;
    let max_age = section.duration(p, "max_age", AGES).unwrap_or(YEAR);
    let subdomains = section.boolean(p, "include_subdomains").unwrap_or(false);
    let preload = section.boolean(p, "preload").unwrap_or(false);
    if preload && (!subdomains || max_age < YEAR) {
        p.push(
            Problem::error(section.span_of("preload"), "browsers preload no such host")
                .help("preload wants include_subdomains = true and a max_age of at least \"365d\" (hstspreload.org)"),
        );
    }
    section.finish(p);
    let mut header = format!("max-age={}", max_age.as_secs());
    for (on, word) in [(subdomains, "; includeSubDomains"), (preload, "; preload")] {
        header.push_str(if on { word } else { "" });
    }
    Some(Some(header))
}
