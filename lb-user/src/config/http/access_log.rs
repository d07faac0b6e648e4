//! `[access_log.NAME]`: what is written of requests, and where to.

use crate::config::files::Files;
use crate::config::model::{AccessLog, LogTarget, Syslog};
use crate::config::problem::{Problem, Problems};
use crate::config::scalar::Wrong;
use crate::config::section::{At, Section, string};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use tls_worker::api::vars::Template;
use tls_worker::api::{self, LogFormat};

const BUFFER: RangeInclusive<u32> = 4_096..=64 << 20;
/// Most logs.
const MAX: usize = 64;
/// Most fields of a line.
const MAX_FIELDS: usize = 128;
/// syslog(3), in the order of their numbers; twelve to fifteen are nobody's.
const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// Fields of a line of JSON, where none are chosen. None is a credential, but for what stands in URLs.
const FIELDS: [(&str, &str); 20] = [
    ("time", "${time}"),
    ("request_id", "${request.id}"),
    ("service", "${service}"),
    ("route", "${route}"),
    ("pool", "${pool}"),
    ("backend", "${backend}"),
    ("client_ip", "${client.ip}"),
    ("client_port", "${client.port}"),
    ("method", "${request.method}"),
    ("scheme", "${request.scheme}"),
    ("host", "${request.host}"),
    ("uri", "${request.uri}"),
    ("protocol", "${request.protocol}"),
    ("status", "${response.status}"),
    ("bytes", "${response.bytes}"),
    ("seconds", "${response.seconds}"),
    ("header_seconds", "${response.header_seconds}"),
    ("end", "${response.end}"),
    ("tls_version", "${tls.version}"),
    ("user_agent", "${header('user-agent')}"),
];

pub(in crate::config) fn access_logs(
    sections: Vec<(At<String>, Section<'_>)>,
    p: &mut Problems,
    files: &Files<'_>,
) -> Vec<AccessLog> {
    if sections.len() > MAX {
        p.push(
            Problem::error(sections[MAX].0.span.clone(), format!("{} access logs are too many", sections.len()))
                .help(format!("write at most {MAX}")),
        );
    }
    let logs: Vec<(At<String>, AccessLog)> =
        sections.into_iter().map(|(name, section)| (name.clone(), access_log(name, section, p, files))).collect();
    for (place, (name, log)) in logs.iter().enumerate() {
        let LogTarget::File(path) = &log.target else { continue };
        let same = logs[..place].iter().find(|(_, other)| matches!(&other.target, LogTarget::File(p) if p == path));
        if let Some((first, _)) = same {
            p.push(
                Problem::error(name.span.clone(), format!("{} is the file of another access log", path.display()))
                    .also(first.span.clone(), "this one")
                    .help("give each a file of its own, or name one log in both services"),
            );
        }
    }
    logs.into_iter().map(|(_, log)| log).collect()
}

fn access_log(name: At<String>, mut section: Section<'_>, p: &mut Problems, files: &Files<'_>) -> AccessLog {
    let target = target(&mut section, p, files);
    let format = format(&mut section, p);
    let sample = section.integer(p, "sample", 1..=1_000_000).unwrap_or(1);
    let errors_always = section.boolean(p, "errors_always").unwrap_or(false);
    let buffer = section.size(p, "buffer", BUFFER).unwrap_or(1 << 20);
    section.finish(p);
    let log = api::AccessLog { name: name.value, format, sample, errors_always, buffer };
    AccessLog { log, target }
}

fn target(section: &mut Section<'_>, p: &mut Problems, files: &Files<'_>) -> LogTarget {
    let to = section.choice(p, "to", &[("file", 0), ("stdout", 1), ("syslog", 2)]);
    if !section.has("to") {
        section.missing("to", "write to = \"file\", \"stdout\" or \"syslog\"");
    }
    let path = section.string(p, "path");
    let socket = section.string(p, "socket").map(|at| files.path(at.value));
    let facility = section.choice(p, "facility", &FACILITIES);
    let tag = section.parsed(p, "tag", tag).map(|at| at.value);
    for (key, kind, word) in
        [("path", 0, "file"), ("socket", 2, "syslog"), ("facility", 2, "syslog"), ("tag", 2, "syslog")]
    {
        if section.has(key) && to.is_some_and(|to| to != kind) {
            p.push(
                Problem::error(section.span_of(key), format!("`{key}` belongs to logs with to = \"{word}\""))
                    .help(format!("set to = \"{word}\", or remove `{key}`")),
            );
        }
    }
    match to {
        Some(2) => LogTarget::Syslog(Syslog {
            socket: socket.unwrap_or_else(|| PathBuf::from("/dev/log")),
            facility: facility.unwrap_or(16),
            tag: tag.unwrap_or_else(|| "bailey".into()),
        }),
        Some(0) => LogTarget::File(file(section, p, files, path)),
        _ => LogTarget::Stdout,
    }
}

fn file(section: &mut Section<'_>, p: &mut Problems, files: &Files<'_>, path: Option<At<&str>>) -> PathBuf {
    let Some(at) = path else {
        if !section.has("path") {
            section.missing("path", "write path = \"/var/log/bailey/access.log\"");
        }
        return PathBuf::new();
    };
    let path = files.path(at.value);
    let dir = path.parent().filter(|dir| dir.is_dir());
    if dir.is_none() || path.is_dir() {
        p.push(
            Problem::error(at.span, format!("there can be no file {}", path.display()))
                .help("make its directory first; a relative path begins at the config's directory"),
        );
    }
    path
}

fn format(section: &mut Section<'_>, p: &mut Problems) -> LogFormat {
    let words = [("json", 0), ("common", 1), ("combined", 2), ("text", 3)];
    let word = section.choice(p, "format", &words).unwrap_or(0);
    let fields = section.section(p, "fields");
    let text = section.string(p, "text");
    for (key, kind, name) in [("fields", 0, "json"), ("text", 3, "text")] {
        if section.has(key) && word != kind {
            p.push(
                Problem::error(section.span_of(key), format!("`{key}` belongs to logs with format = \"{name}\""))
                    .help(format!("set format = \"{name}\", or remove `{key}`")),
            );
        }
    }
    match word {
        1 => LogFormat::Common,
        2 => LogFormat::Combined,
        3 => {
            if !section.has("text") {
                section.missing("text", "write text = \"${client.ip} ${request.uri} ${response.status}\"");
            }
            LogFormat::Text(text.and_then(|at| template(&at, p)).unwrap_or_default())
        }
        _ => LogFormat::Json(match fields {
            Some(section) => chosen(section, p),
            None => FIELDS.iter().map(|(key, text)| (key.to_string(), text.to_string())).collect(),
        }),
    }
}

/// The operator's own fields, in the order of the text.
fn chosen(section: Section<'_>, p: &mut Problems) -> Vec<(String, String)> {
    let entries = section.entries();
    if entries.is_empty() || entries.len() > MAX_FIELDS {
        p.push(
            Problem::error(section.span.clone(), format!("{} fields make no line", entries.len()))
                .help(format!("choose 1 to {MAX_FIELDS}, or leave `fields` out")),
        );
    }
    let field = |(key, value): (At<&str>, _)| {
        let at = string(p, value, &format!("{} {}", section.title, key.value))?;
        Some((key.value.to_owned(), template(&at, p)?))
    };
    entries.into_iter().filter_map(field).collect()
}

/// A text that a line can be told.
fn template(at: &At<&str>, p: &mut Problems) -> Option<String> {
    let text = super::text::template(p, at, super::text::When::End)?;
    let template = Template::parse(&text).ok()?;
    if !template.fits_a_log() {
        p.push(
            Problem::error(at.span.clone(), "this asks for the request's header and for the answer in one expression")
                .help("a log keeps no header until the answer: write two expressions, `${…} ${…}`"),
        );
        return None;
    }
    if template.tells_secrets() {
        p.push(
            Problem::warning(at.span.clone(), "this writes credentials into the log")
                .help("whoever reads the log can use them; leave cookies and Authorization out"),
        );
    }
    Some(text)
}

/// RFC 3164, 4.1.3
fn tag(text: &str) -> Result<String, Wrong> {
    if (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(format!("{text:?} is no tag of syslog"), "write 1 to 32 letters, digits, `-`, `_` and `.`"))
}
