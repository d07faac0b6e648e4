//! `[pool.NAME.persistence]`: clients that come again go to the backend that they had.

use super::text::{self, When};
use crate::config::files::Files;
use crate::config::problem::{Problem, Problems};
use crate::config::scalar::{self, Wrong};
use crate::config::section::{At, Section};
use crate::config::tls::ticket_keys;
use ring::digest::{SHA256, digest};
use std::ops::RangeInclusive;
use std::time::Duration;
use tls_worker::api::vars::Template;
use tls_worker::api::{PersistBy, Persistence, SameSite, SessionCookie};

const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);
const DRAIN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(30 * 86_400);
const MAX_AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(400 * 86_400);
const ENTRIES: RangeInclusive<u32> = 1..=1_000_000;

/// What `type` may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Source,
    Cookie,
    AppCookie,
    Header,
    Query,
    PathPart,
    ClientCert,
    Key,
    TlsSession,
}

const KINDS: [(&str, Kind); 9] = [
    ("cookie", Kind::Cookie),
    ("app_cookie", Kind::AppCookie),
    ("source", Kind::Source),
    ("header", Kind::Header),
    ("query", Kind::Query),
    ("path_part", Kind::PathPart),
    ("client_cert", Kind::ClientCert),
    ("key", Kind::Key),
    ("tls_session", Kind::TlsSession),
];

/// Keys that not every type has.
const KEYS: [(&str, &[Kind]); 12] = [
    ("name", &[Kind::Cookie, Kind::AppCookie, Kind::Header, Kind::Query]),
    ("ipv4_prefix", &[Kind::Source]),
    ("ipv6_prefix", &[Kind::Source]),
    ("part", &[Kind::PathPart]),
    ("key", &[Kind::Key]),
    ("path", &[Kind::Cookie]),
    ("domain", &[Kind::Cookie]),
    ("same_site", &[Kind::Cookie]),
    ("max_age", &[Kind::Cookie]),
    ("http_only", &[Kind::Cookie]),
    ("secure", &[Kind::Cookie]),
    ("keys_file", &[Kind::Cookie]),
];

pub(in crate::config) fn persistence(
    mut section: Section<'_>,
    pool: &At<String>,
    p: &mut Problems,
    files: &mut Files<'_>,
) -> Option<Persistence> {
    let kind = section.choice(p, "type", &KINDS);
    if !section.has("type") {
        section.missing("type", "write type = \"cookie\", or by what else clients are to be known");
    }
    let timeout = section.duration(p, "timeout", TIMEOUT).unwrap_or(Duration::from_secs(3_600));
    let max_entries = section.integer(p, "max_entries", ENTRIES).unwrap_or(100_000);
    let drain_timeout = section.duration(p, "drain_timeout", DRAIN).unwrap_or(Duration::from_secs(3_600));
    let (v4, v6) = (section.integer(p, "ipv4_prefix", 1..=32), section.integer(p, "ipv6_prefix", 1..=128));
    let name = section.string(p, "name");
    let part = section.integer(p, "part", 1..=64);
    let key = section.string(p, "key").and_then(|at| template(&at, p));
    let cookie = cookie(&mut section, p, &pool.value, name.as_ref().filter(|_| kind == Some(Kind::Cookie)), files);
    if let Some(kind) = kind {
        tell_of_others(kind, &section, p);
    }
    let by = match kind {
        None => None,
        Some(Kind::Source) => Some(PersistBy::Source { v4: v4.unwrap_or(32) as u8, v6: v6.unwrap_or(64) as u8 }),
        Some(Kind::Cookie) => Some(PersistBy::Cookie(cookie)),
        Some(Kind::AppCookie) => named(name, "JSESSIONID", cookie_name, &section, p).map(PersistBy::AppCookie),
        Some(Kind::Header) => {
            named(name, "x-user", scalar::header_name, &section, p).map(|name| secret(format!("${{header('{name}')}}")))
        }
        Some(Kind::Query) => {
            named(name, "user", parameter, &section, p).map(|name| secret(format!("${{query('{name}')}}")))
        }
        Some(Kind::PathPart) => Some(open(format!("${{path_part('{}')}}", part.unwrap_or(1)))),
        Some(Kind::ClientCert) => Some(open("${tls.client_cert.fingerprint}".into())),
        Some(Kind::Key) => {
            if !section.has("key") {
                section.missing("key", "write key = \"${header('x-user')}\"");
            }
            key.map(secret)
        }
        Some(Kind::TlsSession) => {
            p.push(
                Problem::error(section.span_of("type"), "a TLS session has no name that a server sees again").help(
                    "sessions go on by tickets, and each resumption has a new one; use type = \"cookie\", \"client_cert\" or \"source\"",
                ),
            );
            None
        }
    };
    section.finish(p);
    Some(Persistence { by: by?, timeout, max_entries, drain_timeout })
}

/// What is no secret.
fn open(text: String) -> PersistBy {
    PersistBy::Key { text, secret: false }
}

/// What may be a credential.
fn secret(text: String) -> PersistBy {
    PersistBy::Key { text, secret: true }
}

fn named(
    name: Option<At<&str>>,
    example: &str,
    parse: impl Fn(&str) -> Result<String, Wrong>,
    section: &Section<'_>,
    p: &mut Problems,
) -> Option<String> {
    let Some(at) = name else {
        if !section.has("name") {
            p.push(
                Problem::error(section.span.clone(), format!("{} lacks the key `name`", section.title))
                    .help(format!("write name = \"{example}\"")),
            );
        }
        return None;
    };
    parse(at.value).map_err(|wrong| p.push(wrong.at(at.span))).ok()
}

fn tell_of_others(kind: Kind, section: &Section<'_>, p: &mut Problems) {
    let word = |kind: Kind| KINDS.iter().find(|(_, known)| *known == kind).map_or("", |(word, _)| word);
    for (key, kinds) in KEYS.iter().filter(|(key, kinds)| !kinds.contains(&kind) && section.has(key)) {
        let whose: Vec<String> = kinds.iter().map(|kind| format!("\"{}\"", word(*kind))).collect();
        p.push(
            Problem::error(section.span_of(key), format!("`{key}` does not belong to type \"{}\"", word(kind)))
                .help(format!("it is for {}; remove it", whose.join(", "))),
        );
    }
    if kind == Kind::Cookie && section.has("max_entries") {
        p.push(
            Problem::warning(section.span_of("max_entries"), "a sealed cookie needs no table")
                .help("remove `max_entries`"),
        );
    }
}

fn cookie(
    section: &mut Section<'_>,
    p: &mut Problems,
    pool: &str,
    name: Option<&At<&str>>,
    files: &mut Files<'_>,
) -> SessionCookie {
    let name = match name {
        Some(at) => cookie_name(at.value).map_err(|wrong| p.push(wrong.at(at.span.clone()))).unwrap_or_default(),
        None => default_name(pool),
    };
    let path = section.parsed(p, "path", cookie_path).map_or("/".into(), |at| at.value);
    let domain = section.parsed(p, "domain", scalar::host_name).map(|at| at.value);
    let words = [("strict", SameSite::Strict), ("lax", SameSite::Lax), ("none", SameSite::None)];
    let same_site = section.choice(p, "same_site", &words).unwrap_or(SameSite::Lax);
    let max_age = section.duration(p, "max_age", MAX_AGE);
    let http_only = section.boolean(p, "http_only").unwrap_or(true);
    let secure = section.boolean(p, "secure");
    if same_site == SameSite::None && secure == Some(false) {
        p.push(
            Problem::error(section.span_of("secure"), "browsers drop a cookie with SameSite=None that is not Secure")
                .help("leave `secure` out, or write same_site = \"lax\""),
        );
    }
    if name.starts_with("__Host-") && (path != "/" || domain.is_some() || secure == Some(false)) {
        p.push(
            Problem::error(
                section.span_of("name"),
                format!("browsers drop a cookie {name:?} that has another path than \"/\", a domain, or is not Secure"),
            )
            .help("take another name, or remove `path`, `domain` and `secure`"),
        );
    }
    let keys = section.string(p, "keys_file").and_then(|at| {
        let keys = files.session_keys(&at, p, ticket_keys);
        files.tell_of_open_mode("file of cookie keys", &at, p);
        keys
    });
    let keys = keys.map(|keys| keys.to_vec()).unwrap_or_default();
    SessionCookie { name, path, domain, same_site, max_age, http_only, secure, keys }
}

/// Says nothing of the pool, and is another one for each: a client of two pools keeps its place in both.
fn default_name(pool: &str) -> String {
    let digest = digest(&SHA256, pool.as_bytes());
    digest.as_ref()[..4].iter().fold("bailey-".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

/// RFC 6265, 4.1.1: a token.
fn cookie_name(text: &str) -> Result<String, Wrong> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(token) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(format!("{text:?} is no name of a cookie"), "write 1 to 64 letters, digits, `-` and `_`"))
}

fn cookie_path(text: &str) -> Result<String, Wrong> {
    if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';') {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(format!("{text:?} is no path of a cookie"), "write a path that begins with `/`, such as \"/\""))
}

fn parameter(text: &str) -> Result<String, Wrong> {
    if !text.is_empty() && !text.contains(['\'', '\\', '{', '}', '$']) && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(format!("{text:?} is no name of a parameter"), "write a name such as \"user\""))
}

fn template(at: &At<&str>, p: &mut Problems) -> Option<String> {
    let text = text::template(p, at, When::Request)?;
    if Template::parse(&text).is_ok_and(|template| template.constant().is_some()) {
        p.push(
            Problem::error(at.span.clone(), format!("{text:?} is the same for every request"))
                .help("write what the request says of its client, such as \"${header('x-user')}\""),
        );
        return None;
    }
    Some(text)
}
