//! Words of a check that mean something. Pure.

use super::super::files::Bad;
use super::super::scalar::Wrong;
use hickory_proto::rr::{Name, RecordType};
use std::net::IpAddr;
use std::str::FromStr as _;
use tls_worker::api::Secret;

/// Bytes of a text that is sent or looked for.
const MAX_TEXT: usize = 4096;

/// An address to ask, or to ask from.
pub(super) fn address(text: &str) -> Result<IpAddr, Wrong> {
    match text.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip) if !ip.is_unspecified() && !ip.is_multicast() => Ok(ip),
        _ => Err(Wrong::new(format!("{text:?} is no address of a host"), "write \"192.0.2.10\" or \"2001:db8::10\"")),
    }
}

pub(super) fn text(text: &str) -> Result<String, Wrong> {
    match text.len() {
        1..=MAX_TEXT => Ok(text.to_owned()),
        _ => Err(Wrong::new("this text cannot be looked for", format!("write 1 to {MAX_TEXT} bytes"))),
    }
}

/// A text of bytes: `\r`, `\n`, `\t`, `\0`, `\\` and `\xHH` stand for one each.
pub(super) fn bytes(text: &str) -> Result<Vec<u8>, Wrong> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (byte, length) = escaped(rest).ok_or_else(|| {
            Wrong::new(
                format!("{text:?} has a backslash that begins nothing"),
                r"the escapes are \r, \n, \t, \0, \xHH and \\; in TOML write such a text in 'single quotes'",
            )
        })?;
        bytes.push(byte);
        rest = &rest[length..];
    }
    match bytes.len() {
        0..=MAX_TEXT => Ok(bytes),
        many => Err(Wrong::new(format!("{many} bytes are too many"), format!("write at most {MAX_TEXT}"))),
    }
}

/// A byte, and how long it is written behind its backslash.
fn escaped(rest: &[u8]) -> Option<(u8, usize)> {
    let hex = |at: usize| char::from(*rest.get(at)?).to_digit(16);
    Some(match rest.first()? {
        b'r' => (b'\r', 1),
        b'n' => (b'\n', 1),
        b't' => (b'\t', 1),
        b'0' => (0, 1),
        b'\\' => (b'\\', 1),
        b'x' => ((hex(1)? << 4 | hex(2)?) as u8, 3),
        _ => return None,
    })
}

pub(super) fn query(text: &str) -> Result<String, Wrong> {
    let bare = text.strip_suffix('.').unwrap_or(text);
    match Name::from_ascii(bare) {
        Ok(_) if text == "." || !bare.is_empty() => Ok(if bare.is_empty() { ".".into() } else { bare.to_owned() }),
        _ => Err(Wrong::new(format!("{text:?} is no DNS name"), "write a name such as \"example.com\", or \".\"")),
    }
}

pub(super) fn record(text: &str) -> Result<String, Wrong> {
    match RecordType::from_str(text) {
        Ok(known) if !matches!(known, RecordType::Unknown(_)) => Ok(text.to_owned()),
        _ => Err(Wrong::new(format!("{text:?} is no type of record"), "write \"A\", \"AAAA\", \"SOA\", \"SRV\" …")),
    }
}

pub(super) fn grpc_service(text: &str) -> Result<String, Wrong> {
    match text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte)) {
        true => Ok(text.to_owned()),
        false => Err(Wrong::new(format!("{text:?} is no service of gRPC"), "write \"package.Service\"")),
    }
}

/// A header that the check does not write itself.
pub(super) fn free(name: String) -> Result<String, Wrong> {
    let own = ["host", "connection", "content-length", "transfer-encoding", "te", "upgrade"];
    match own.contains(&name.as_str()) {
        true if name == "host" => Err(Wrong::new("the header \"host\" has a key of its own", "write it as `host`")),
        true => Err(Wrong::new(format!("the header {name:?} is the check's own"), "remove it")),
        false => Ok(name),
    }
}

/// One line.
pub(super) fn password(bytes: &[u8]) -> Result<Vec<Secret>, Bad> {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() || line.contains(&b'\n') || line.len() > MAX_TEXT {
        return Err(Bad {
            message: "it is not one line with a password".into(),
            help: "write the password alone".into(),
        });
    }
    Ok(vec![Secret::new(line.to_vec())])
}
