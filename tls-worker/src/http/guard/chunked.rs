//! A chunked body (RFC 9112, 7.1): its sizes, line ends and trailers are looked at, its data is not.

use super::Bounds;
use super::head::field;
use crate::stats::Rejection;

/// Digits of a chunk's size: it fits 64 bits with room.
const MAX_DIGITS: u32 = 15;
/// Bytes of extensions, of a whole body: nobody reads them.
const MAX_EXTENSIONS: usize = 4 << 10;

#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    size: u64,
    digits: u32,
    extensions: usize,
    /// The trailer that is not whole yet.
    line: Vec<u8>,
    trailers: usize,
    fields: usize,
    bounds: Bounds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    Trailer,
    TrailerEnd,
}

impl Chunked {
    pub(super) fn new(bounds: Bounds) -> Self {
        Chunked {
            state: State::Size,
            size: 0,
            digits: 0,
            extensions: 0,
            line: Vec::new(),
            trailers: 0,
            fields: 0,
            bounds,
        }
    }

    /// How many bytes are good, and whether the body ends with them; or how many were, and what is wrong.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(usize, bool), (usize, Rejection)> {
        let mut at = 0;
        while at < bytes.len() {
            if self.state == State::Data {
                let n = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.size -= n as u64;
                at += n;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            match self.byte(bytes[at]) {
                Ok(false) => at += 1,
                Ok(true) => return Ok((at + 1, true)),
                Err(reason) => return Err((at, reason)),
            }
        }
        Ok((at, false))
    }

    /// Take a byte that is no data; whether it is the last.
    fn byte(&mut self, byte: u8) -> Result<bool, Rejection> {
        self.state = match (self.state, byte) {
            (State::Size, _) if byte.is_ascii_hexdigit() && self.digits < MAX_DIGITS => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                (self.size, self.digits) = (self.size << 4 | u64::from(digit), self.digits + 1);
                State::Size
            }
            (State::Size, b'\r') if self.digits > 0 => State::SizeEnd,
            (State::Size, b';') if self.digits > 0 => State::Extension,
            (State::Extension, b'\r') => State::SizeEnd,
            (State::Extension, b'\t' | b' '..=b'~') => {
                self.extensions += 1;
                if self.extensions > MAX_EXTENSIONS {
                    return Err(Rejection::Chunk);
                }
                State::Extension
            }
            (State::SizeEnd, b'\n') => {
                self.digits = 0;
                if self.size == 0 { State::Trailer } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::Trailer, b'\r') => State::TrailerEnd,
            (State::Trailer, b'\n') => return Err(Rejection::LineEnd),
            (State::Trailer, _) => {
                self.trailers += 1;
                if self.trailers > self.bounds.header {
                    return Err(Rejection::HeaderSize);
                }
                self.line.push(byte);
                State::Trailer
            }
            (State::TrailerEnd, b'\n') if self.line.is_empty() => return Ok(true),
            (State::TrailerEnd, b'\n') => {
                self.trailer()?;
                State::Trailer
            }
            (State::TrailerEnd, _) => return Err(Rejection::LineEnd),
            _ => return Err(Rejection::Chunk),
        };
        Ok(false)
    }

    fn trailer(&mut self) -> Result<(), Rejection> {
        let line = std::mem::take(&mut self.line);
        self.fields += 1;
        match field(&line) {
            _ if self.fields > self.bounds.fields => Err(Rejection::HeaderCount),
            Err(_) if matches!(line[0], b' ' | b'\t') => Err(Rejection::Fold),
            Err(reason) => Err(reason),
            // RFC 9110, 6.5.1: what frames and routes a message is none of its trailers.
            Ok((name, _)) => {
                let own: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"host"];
                if own.iter().any(|own| name.eq_ignore_ascii_case(own)) { Err(Rejection::Trailer) } else { Ok(()) }
            }
        }
    }
}
