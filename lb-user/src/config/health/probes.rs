//! What each type of check asks.

use super::super::files::Files;
use super::super::host::Host;
use super::super::model::{DnsProbe, HttpProbe, LdapProbe, ScriptProbe, TextProbe};
use super::super::pool::codes;
use super::super::problem::{Problem, Problems};
use super::super::scalar;
use super::super::section::{Section, string};
use super::{Kind, Of, words};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// Headers of a request.
const MAX_HEADERS: usize = 32;
/// Whom scripts run as.
const SCRIPT_USER: &str = "nobody";

pub(super) fn http(section: &mut Section<'_>, pool: &Of<'_>, p: &mut Problems) -> HttpProbe {
    let methods = [("GET", "GET"), ("HEAD", "HEAD"), ("OPTIONS", "OPTIONS"), ("POST", "POST")];
    let method = section.choice(p, "method", &methods).unwrap_or("GET");
    let body = section.parsed(p, "body", words::text).map(|at| at.value);
    if body.is_some() && method == "HEAD" {
        p.push(
            Problem::error(section.span_of("body"), "an answer to HEAD has no body")
                .help("write method = \"GET\", or remove `body`"),
        );
    }
    HttpProbe {
        method: method.into(),
        path: section.parsed(p, "path", scalar::request_path).map_or("/".into(), |at| at.value),
        host: section.parsed(p, "host", scalar::host_header).map(|at| at.value),
        headers: headers(section, p),
        codes: codes(section, p, "codes"),
        body,
        http2: section.choice(p, "protocol", &[("http/1.1", false), ("h2", true)]).unwrap_or(pool.h2c),
    }
}

/// `headers = { authorization = "…" }`
fn headers(section: &mut Section<'_>, p: &mut Problems) -> Vec<(String, String)> {
    let span = section.span_of("headers");
    let Some(table) = section.section(p, "headers") else { return Vec::new() };
    let mut headers = Vec::new();
    for (name, value) in table.entries() {
        let known =
            scalar::header_name(name.value).and_then(words::free).map_err(|wrong| p.push(wrong.at(name.span))).ok();
        let Some(text) = string(p, value, name.value) else { continue };
        if hyper::header::HeaderValue::from_str(text.value).is_err() {
            p.push(
                Problem::error(text.span, "this cannot be the value of a header")
                    .help("write printable characters on one line"),
            );
            continue;
        }
        headers.extend(known.map(|name| (name, text.value.to_owned())));
    }
    if headers.len() > MAX_HEADERS {
        p.push(
            Problem::error(span, format!("{} headers are too many", headers.len()))
                .help(format!("write at most {MAX_HEADERS}")),
        );
    }
    headers
}

pub(super) fn exchange(
    section: &mut Section<'_>,
    kind: Option<Kind>,
    p: &mut Problems,
) -> (TextProbe, Option<DnsProbe>) {
    let transport = section.choice(p, "transport", &[("tcp", false), ("udp", true)]);
    let send = section.parsed(p, "send", words::bytes).map(|at| at.value);
    let name = section.parsed(p, "query", words::query).map(|at| at.value);
    let record = section.parsed(p, "record", words::record).map_or("A".into(), |at| at.value);
    let (mut expect_bytes, mut expect_text) = (None, None);
    if kind == Some(Kind::Dns) {
        expect_text = section.string(p, "expect").map(|at| at.value.to_owned());
    } else {
        expect_bytes = section.parsed(p, "expect", words::bytes).map(|at| at.value);
    }
    let mut lacks = |key: &'static str, help: &str| {
        if !section.has(key) {
            section.missing(key, help);
        }
    };
    let udp = transport == Some(true);
    match kind {
        Some(Kind::Text) => {
            lacks("expect", "write what the answer must hold, or \"\" for anything; for none at all type = \"tcp\"");
            if udp {
                lacks("send", "over UDP nobody answers who was not asked: write what is sent");
            }
        }
        Some(Kind::Dns) => lacks("query", "write a name that the server knows: query = \"example.com\""),
        _ => {}
    }
    let text = TextProbe {
        udp: udp && kind == Some(Kind::Text),
        send: send.unwrap_or_default(),
        expect: expect_bytes.unwrap_or_default(),
    };
    let dns = name.map(|name| DnsProbe { tcp: transport == Some(false), name, record, expect: expect_text });
    (text, dns)
}

pub(super) fn ldap(section: &mut Section<'_>, p: &mut Problems, files: &mut Files<'_>) -> LdapProbe {
    let bind_dn = section.string(p, "bind_dn").map(|at| at.value.to_owned()).unwrap_or_default();
    let file = section.string(p, "password_file");
    let password = file.as_ref().and_then(|at| {
        let password = files.password(at, p, words::password);
        files.tell_of_open_mode("password file", at, p);
        password
    });
    // RFC 4513, 5.1.2: a name without a password is taken by many servers, and says nothing about either.
    if bind_dn.is_empty() != file.is_none() && section.has("bind_dn") | section.has("password_file") {
        let (there, lacks) =
            if bind_dn.is_empty() { ("password_file", "bind_dn") } else { ("bind_dn", "password_file") };
        p.push(
            Problem::error(section.span_of(there), format!("`{there}` without `{lacks}`"))
                .help("write both, or neither for an anonymous bind"),
        );
    }
    LdapProbe { bind_dn, password }
}

pub(super) fn script(
    section: &mut Section<'_>,
    kind: Option<Kind>,
    host: &Host,
    p: &mut Problems,
) -> Option<ScriptProbe> {
    let user = section.string(p, "user");
    if let Some(at) = user.as_ref().filter(|at| !(host.user_exists)(at.value)) {
        p.push(
            Problem::error(at.span.clone(), format!("this host has no user {:?}", at.value))
                .help(format!("create it (useradd --system), or leave `user` out for {SCRIPT_USER:?}")),
        );
    }
    if kind == Some(Kind::Script) && !section.has("command") {
        section.missing("command", "write command = [\"/usr/local/lib/bailey/check\", \"an argument\"]");
    }
    let said = section.one_or_many(p, "command")?;
    let Some((program, arguments)) = said.split_first() else {
        p.push(Problem::error(section.span_of("command"), "no program").help("write the absolute path of one"));
        return None;
    };
    let path = PathBuf::from(program.value);
    if !path.is_absolute() {
        p.push(
            Problem::error(program.span.clone(), format!("{:?} is no absolute path", program.value))
                .help("nothing is searched for in PATH: write where the program is; no shell is involved"),
        );
        return None;
    }
    let runs = std::fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    if !runs {
        p.push(
            Problem::warning(program.span.clone(), format!("there is no program {:?} on this host", program.value))
                .help("until it is there, its backends cannot be checked, and stay as they are"),
        );
    }
    Some(ScriptProbe {
        program: path,
        arguments: arguments.iter().map(|at| at.value.to_owned()).collect(),
        user: user.map_or(SCRIPT_USER.into(), |at| at.value.to_owned()),
    })
}
