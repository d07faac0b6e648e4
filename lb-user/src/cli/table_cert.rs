//! What files of certificates hold, in words.

use crate::cert::inspect::{CertificateView, CrlView, KeyView, Object, RequestView, Says};

/// A paragraph for each object.
pub(super) fn objects(objects: &[Object]) -> String {
    let paragraphs: Vec<String> = objects.iter().map(object).collect();
    paragraphs.join("\n")
}

fn object(object: &Object) -> String {
    let place = object.line.map_or(String::new(), |line| format!(":{line}"));
    let (what, lines) = match &object.says {
        Says::Certificate(view) => ("certificate", certificate(view)),
        Says::Key(view) => ("private key", key(view)),
        Says::Request(view) => ("certification request", request(view)),
        Says::Crl(view) => ("revocation list", crl(view)),
        Says::Other { what } => (what.as_str(), vec![("", "not looked into".into())]),
        Says::Unreadable { what, why } => (what.as_str(), vec![("unreadable", why.clone())]),
    };
    let lines = lines.iter().filter(|(_, value)| !value.is_empty());
    let lines: String = lines.map(|(key, value)| format!("  {key:<12} {value}\n")).collect();
    format!("{}{place}: {what}\n{lines}", object.file)
}

fn certificate(view: &CertificateView) -> Vec<(&'static str, String)> {
    let left = match view.days_left {
        days if days < 0 => format!("EXPIRED {} days ago", -days),
        days => format!("{days} days left"),
    };
    vec![
        ("subject", view.subject.clone()),
        ("issuer", if view.issuer == view.subject { "itself".into() } else { view.issuer.clone() }),
        ("names", view.names.join(", ")),
        ("valid", format!("{} to {}, {left}", view.not_before, view.not_after)),
        ("key", view.key.to_string()),
        ("signature", view.signature.clone()),
        ("serial", view.serial.clone()),
        ("SHA-256", view.fingerprint.clone()),
        ("pin", view.pin.clone()),
        ("authority", if view.authority { "yes".into() } else { String::new() }),
        (
            "usage",
            [view.key_usage.join(", "), view.extended_key_usage.join(", ")].join("; ").trim_matches([';', ' ']).into(),
        ),
        ("OCSP", view.ocsp.clone().unwrap_or_default()),
        ("issuer at", view.issuer_url.clone().unwrap_or_default()),
        ("must staple", if view.must_staple { "yes".into() } else { String::new() }),
    ]
}

fn key(view: &KeyView) -> Vec<(&'static str, String)> {
    let (kind, belongs) = match &view.key {
        Some(kind) if view.belongs_to.is_empty() => (kind.to_string(), "nothing in these files".into()),
        Some(kind) => (kind.to_string(), view.belongs_to.join("; ")),
        None if view.encrypted => ("encrypted".into(), String::new()),
        None => ("cannot be read".into(), String::new()),
    };
    vec![("key", kind), ("pin", view.pin.clone().unwrap_or_default()), ("belongs to", belongs)]
}

fn request(view: &RequestView) -> Vec<(&'static str, String)> {
    vec![
        ("subject", view.subject.clone()),
        ("names", view.names.join(", ")),
        ("key", view.key.to_string()),
        ("signature", view.signature.clone()),
        ("must staple", if view.must_staple { "yes".into() } else { String::new() }),
    ]
}

fn crl(view: &CrlView) -> Vec<(&'static str, String)> {
    let due = match (&view.next_update, view.overdue) {
        (Some(next), true) => format!("{next}, OVERDUE"),
        (Some(next), false) => next.clone(),
        (None, _) => "not said".into(),
    };
    vec![
        ("issuer", view.issuer.clone()),
        ("made", view.this_update.clone()),
        ("next due", due),
        ("revoked", view.revoked.to_string()),
        ("signature", view.signature.clone()),
    ]
}
