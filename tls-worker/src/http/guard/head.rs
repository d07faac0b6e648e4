//! One request's header, line by line as it comes: RFC 9112, without what it lets a recipient repair.

use super::chars::{is_target, is_token, is_value, trim};
use super::{Bounds, Framing};
use crate::stats::Rejection;
use memchr::memchr2;

/// What a request line has beside its target, at most, before it is known to be too long.
const AROUND_TARGET: usize = 64;

/// A header that is read. It is shown from its first byte each time; what was looked at is not looked at again.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Where the line begins that is not whole yet.
    line: usize,
    /// Up to where no line ends.
    searched: usize,
    part: Part,
    fields: usize,
    old: bool,
    host: bool,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// One empty line may stand here (RFC 9112, 2.2).
    #[default]
    Begin,
    RequestLine,
    Fields,
}

/// A whole, good header.
#[derive(Debug)]
pub(super) struct Whole {
    /// Its bytes.
    pub(super) length: usize,
    pub(super) framing: Framing,
    pub(super) asks_upgrade: bool,
}

impl Head {
    pub(super) fn feed(&mut self, bytes: &[u8], bounds: &Bounds) -> Result<Option<Whole>, Rejection> {
        loop {
            let Some(at) = memchr2(b'\r', b'\n', &bytes[self.searched..]).map(|i| self.searched + i) else {
                self.searched = bytes.len();
                break;
            };
            match (bytes[at], bytes.get(at + 1)) {
                (b'\r', Some(b'\n')) => {}
                (b'\r', None) => {
                    self.searched = at;
                    break;
                }
                _ => {
                    self.unfinished(&bytes[self.line..at], bounds)?;
                    return Err(if at < bounds.header { Rejection::LineEnd } else { Rejection::HeaderSize });
                }
            }
            let line = &bytes[self.line..at];
            (self.line, self.searched) = (at + 2, at + 2);
            if self.line > bounds.header && self.part == Part::Fields {
                return Err(Rejection::HeaderSize);
            }
            if self.take(line, bounds)? {
                return self.whole().map(Some);
            }
        }
        self.unfinished(&bytes[self.line..], bounds)?;
        if bytes.len() > bounds.header { Err(Rejection::HeaderSize) } else { Ok(None) }
    }

    /// A line that is not whole: what can be said of it already.
    fn unfinished(&self, line: &[u8], bounds: &Bounds) -> Result<(), Rejection> {
        match (self.part, line) {
            (Part::Fields, _) | (_, [] | [b'\r']) => Ok(()),
            (_, [first, ..]) if !is_token(&[*first]) => Err(Rejection::RequestLine),
            _ if line.len() > bounds.target + AROUND_TARGET => Err(Rejection::UriLength),
            _ => Ok(()),
        }
    }

    /// Take a line; whether it is the last.
    fn take(&mut self, line: &[u8], bounds: &Bounds) -> Result<bool, Rejection> {
        match (self.part, line) {
            (Part::Begin, []) => self.part = Part::RequestLine,
            (Part::RequestLine, []) => return Err(Rejection::RequestLine),
            (Part::Begin | Part::RequestLine, _) => {
                self.request_line(line, bounds)?;
                self.part = Part::Fields;
            }
            (Part::Fields, []) => return Ok(true),
            (Part::Fields, _) => self.field(line, bounds)?,
        }
        Ok(false)
    }

    fn request_line(&mut self, line: &[u8], bounds: &Bounds) -> Result<(), Rejection> {
        self.unfinished(line, bounds)?;
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return Err(Rejection::RequestLine) };
        if !is_token(method) {
            return Err(Rejection::RequestLine);
        }
        match (words.next(), words.next()) {
            (Some(b"HTTP/1.1"), None) => {}
            (Some(b"HTTP/1.0"), None) => self.old = true,
            (Some(version), None) if version.starts_with(b"HTTP/") => return Err(Rejection::Version),
            (None, _) => return Err(Rejection::Version),
            _ => return Err(Rejection::RequestLine),
        }
        if target.len() > bounds.target {
            return Err(Rejection::UriLength);
        }
        if method == b"CONNECT" {
            return Err(Rejection::Method);
        }
        if target.contains(&b'#') {
            return Err(Rejection::Fragment);
        }
        let absolute = |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme));
        let form = match target {
            [b'/', ..] => true,
            b"*" => method == b"OPTIONS",
            _ => absolute(b"http://") || absolute(b"https://"),
        };
        if form && is_target(target) { Ok(()) } else { Err(Rejection::Target) }
    }

    fn field(&mut self, line: &[u8], bounds: &Bounds) -> Result<(), Rejection> {
        if let [b' ' | b'\t', ..] = line {
            return Err(if self.fields == 0 { Rejection::Leading } else { Rejection::Fold });
        }
        self.fields += 1;
        if self.fields > bounds.fields {
            return Err(Rejection::HeaderCount);
        }
        let (name, value) = field(line)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") && self.host => return Err(Rejection::Host),
            4 if name.eq_ignore_ascii_case(b"host") => self.host = true,
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = number(value).ok_or(Rejection::ContentLength)?;
                if self.length.replace(length).is_some() {
                    return Err(Rejection::ContentLength);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if !value.eq_ignore_ascii_case(b"chunked") || self.chunked {
                    return Err(Rejection::TransferEncoding);
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn whole(&self) -> Result<Whole, Rejection> {
        if !self.host {
            return Err(Rejection::Host);
        }
        let framing = match (self.chunked, self.length) {
            (true, Some(_)) => return Err(Rejection::TwoFramings),
            (true, None) if self.old => return Err(Rejection::OldChunked),
            (true, None) => Framing::Chunked,
            (false, length) => Framing::Length(length.unwrap_or(0)),
        };
        Ok(Whole { length: self.line, framing, asks_upgrade: self.upgrade })
    }
}

/// Name and value of a field.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Rejection> {
    let Some(colon) = memchr::memchr(b':', line) else { return Err(Rejection::HeaderName) };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        let spaced = is_token(trim(name)) && matches!(name, [.., b' ' | b'\t']);
        return Err(if spaced { Rejection::SpaceBeforeColon } else { Rejection::HeaderName });
    }
    if is_value(value) { Ok((name, trim(value))) } else { Err(Rejection::Control) }
}

/// Digits and nothing else. RFC 9110, 8.6: a recipient must expect large ones, and take care of overflows.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Some count in 63 bits.
    std::str::from_utf8(text).ok()?.parse::<u64>().ok().filter(|n| i64::try_from(*n).is_ok())
}
