//! Reads a ClientHello (RFC 8446, 4.1.2) out of what a client sends, without a byte of state outside of it: whole or
//! byte by byte, in one record or in many. It is read to find a way for the connection, never to answer it, so old
//! versions and unknown extensions are nobody's business here.
//!
//! What is asked of it: the name (RFC 6066, 3) and the application protocols (RFC 7301). GREASE values (RFC 8701) are
//! names of nothing and match no route; of an encrypted ClientHello the outer name is the name.

use std::net::IpAddr;
use tls_parser::{
    SNIType, TlsExtension, parse_tls_extension_alpn_content, parse_tls_extension_sni_content,
    parse_tls_handshake_client_hello,
};

/// Content type of handshake records (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// Handshake type (RFC 8446, 4).
const CLIENT_HELLO: u8 = 1;
/// Bytes of a record's header, and of a handshake message's.
const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
/// Most bytes of a record (RFC 8446, 5.1).
const MAX_RECORD: usize = 1 << 14;
/// Extensions that are read.
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// What a client says first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// Host name that it asks for, lower case, without a dot at its end. None: it names none, or an IP address, which
    /// is no name (RFC 6066, 3).
    pub sni: Option<Box<str>>,
    /// Application protocols that it offers, in its order.
    pub alpn: Vec<Box<[u8]>>,
    /// `legacy_version`: 0x0301 for TLS 1.0, 0x0303 for TLS 1.2 and everything after it.
    pub version: u16,
}

/// What the bytes so far are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HelloStep {
    /// The beginning of a ClientHello.
    NeedMore,
    /// One that is whole.
    Hello(ClientHello),
    /// No TLS record.
    NotTls,
    /// The beginning of an HTTP request in clear text.
    PlainHttp,
    /// More than the bound, or announced to be.
    TooLong,
    /// TLS, but no ClientHello that can be read; also one that says the same thing twice, as it would be open which
    /// counts for the backend.
    Malformed,
}

/// Takes bytes as they come. A result other than [`HelloStep::NeedMore`] is the last.
#[derive(Debug)]
pub struct HelloReader {
    max: usize,
    /// Bytes taken, headers of records included.
    taken: usize,
    header: [u8; RECORD_HEADER],
    /// Bytes of the header that are there.
    header_len: usize,
    /// Bytes of the record that are still to come.
    record_left: usize,
    message: Vec<u8>,
}

impl HelloReader {
    /// `max`: most bytes that a ClientHello may take, headers of its records included.
    pub fn new(max: usize) -> Self {
        HelloReader { max, taken: 0, header: [0; RECORD_HEADER], header_len: 0, record_left: 0, message: Vec::new() }
    }

    /// Take what came next.
    pub fn feed(&mut self, mut bytes: &[u8]) -> HelloStep {
        while !bytes.is_empty() {
            let n = if self.record_left == 0 {
                self.header[self.header_len] = bytes[0];
                self.header_len += 1;
                if let Some(end) = self.check_header() {
                    return end;
                }
                1
            } else {
                let n = self.record_left.min(bytes.len());
                self.message.extend_from_slice(&bytes[..n]);
                self.record_left -= n;
                n
            };
            self.taken += n;
            bytes = &bytes[n..];
            match self.check_message() {
                HelloStep::NeedMore => {}
                end => return end,
            }
        }
        HelloStep::NeedMore
    }

    /// See whether this can be the header of a record of a handshake; begin the record where it is whole.
    fn check_header(&mut self) -> Option<HelloStep> {
        let first_record = self.taken < RECORD_HEADER;
        let last = self.header[self.header_len - 1];
        match self.header_len {
            1 if last == HANDSHAKE => None,
            1 if !first_record => Some(HelloStep::Malformed),
            1 if last.is_ascii_uppercase() => Some(HelloStep::PlainHttp),
            1 => Some(HelloStep::NotTls),
            2 if last != 3 => Some(if first_record { HelloStep::NotTls } else { HelloStep::Malformed }),
            RECORD_HEADER => {
                self.record_left = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
                self.header_len = 0;
                // RFC 8446, 5.1: a handshake's records are never empty.
                (!(1..=MAX_RECORD).contains(&self.record_left)).then_some(HelloStep::Malformed)
            }
            _ => None,
        }
    }

    fn check_message(&self) -> HelloStep {
        match *self.message.as_slice() {
            [kind, ..] if kind != CLIENT_HELLO => HelloStep::Malformed,
            [_, a, b, c, ..] => {
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                if RECORD_HEADER + MESSAGE_HEADER + length > self.max {
                    return HelloStep::TooLong;
                }
                match self.message.get(MESSAGE_HEADER..MESSAGE_HEADER + length) {
                    Some(body) => parse(body).map_or(HelloStep::Malformed, HelloStep::Hello),
                    None if self.taken >= self.max => HelloStep::TooLong,
                    None => HelloStep::NeedMore,
                }
            }
            _ if self.taken >= self.max => HelloStep::TooLong,
            _ => HelloStep::NeedMore,
        }
    }
}

/// The same for bytes that are all there: what a client that sends these is.
pub fn client_hello(bytes: &[u8], max: usize) -> HelloStep {
    HelloReader::new(max).feed(bytes)
}

/// The body of a ClientHello. None: it is malformed.
fn parse(body: &[u8]) -> Option<ClientHello> {
    let (rest, hello) = parse_tls_handshake_client_hello(body).ok()?;
    // The parser passes over extensions whose length is wrong.
    if !rest.is_empty() {
        return None;
    }
    let mut found = ClientHello { version: hello.version.0, ..ClientHello::default() };
    let (mut has_name, mut has_alpn) = (false, false);
    let mut left = hello.ext.unwrap_or_default();
    while !left.is_empty() {
        let (kind, after) = left.split_first_chunk()?;
        let (length, after) = after.split_first_chunk()?;
        let (content, after) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
        left = after;
        // RFC 8446, 4.2: no extension is there twice.
        match u16::from_be_bytes(*kind) {
            SERVER_NAME if !std::mem::replace(&mut has_name, true) => found.sni = server_name(content)?,
            ALPN if !std::mem::replace(&mut has_alpn, true) => found.alpn = protocols(content)?,
            SERVER_NAME | ALPN => return None,
            _ => {}
        }
    }
    Some(found)
}

/// The name in the extension's content; the outer None: it is malformed.
fn server_name(content: &[u8]) -> Option<Option<Box<str>>> {
    let Ok((rest, TlsExtension::SNI(names))) = parse_tls_extension_sni_content(content) else { return None };
    // The parser stops at a name that it cannot read: what it read must be what there was.
    if !rest.is_empty() || content.len() != 2 + names.iter().map(|(_, name)| 3 + name.len()).sum::<usize>() {
        return None;
    }
    let mut hosts = names.iter().filter(|(kind, _)| *kind == SNIType::HostName);
    // RFC 6066, 3: there is one name of a kind, at most. The only kind is the host name.
    match (hosts.next(), hosts.next()) {
        (Some((_, name)), None) => host_name(name),
        _ => None,
    }
}

fn host_name(name: &[u8]) -> Option<Option<Box<str>>> {
    let text = str::from_utf8(name).ok()?;
    if text.parse::<IpAddr>().is_ok() {
        return Some(None);
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    (text.len() <= 253 && text.split('.').all(label)).then(|| Some(text.to_ascii_lowercase().into()))
}

fn protocols(content: &[u8]) -> Option<Vec<Box<[u8]>>> {
    let Ok((rest, TlsExtension::ALPN(names))) = parse_tls_extension_alpn_content(content) else { return None };
    let whole = rest.is_empty() && content.len() == 2 + names.iter().map(|name| 1 + name.len()).sum::<usize>();
    let known = !names.is_empty() && names.iter().all(|name| !name.is_empty());
    (whole && known).then(|| names.into_iter().map(Box::from).collect())
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
