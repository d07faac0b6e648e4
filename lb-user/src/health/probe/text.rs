//! Send and expect: a text over TCP, TLS or UDP, and one that must be in the answer.

use super::connect::{blame, open, udp};
use super::{Answer, Fault, MAX_ANSWER, Question, quote};
use crate::config::TextProbe;
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Bytes of a datagram.
const MAX_DATAGRAM: usize = 65_535;
/// Bytes that are kept to be quoted.
const HEAD: usize = 128;

/// A text that is looked for in bytes that come in portions. Pure.
#[derive(Debug)]
pub struct Search<'n> {
    needle: &'n [u8],
    /// The last bytes, that the needle may have begun in.
    tail: Vec<u8>,
    head: Vec<u8>,
    seen: usize,
    found: bool,
}

impl<'n> Search<'n> {
    /// Nothing was seen yet. An empty needle is found in the first byte.
    pub fn new(needle: &'n [u8]) -> Self {
        Self { needle, tail: Vec::new(), head: Vec::new(), seen: 0, found: false }
    }

    /// Look through more; what is over the bound is not looked at.
    pub fn take(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(MAX_ANSWER - self.seen)];
        self.seen += bytes.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(HEAD - self.head.len())]);
        self.tail.extend_from_slice(bytes);
        self.found |= match self.needle.len() {
            0 => self.seen > 0,
            length => self.tail.windows(length).any(|window| window == self.needle),
        };
        let keep = self.needle.len().saturating_sub(1).min(self.tail.len());
        self.tail.drain(..self.tail.len() - keep);
    }

    /// Whether it was there.
    pub fn found(&self) -> bool {
        self.found
    }

    /// Whether more bytes change nothing.
    pub fn is_over(&self) -> bool {
        self.found || self.seen >= MAX_ANSWER
    }

    /// For people: what is missing from what.
    pub fn lacks(&self) -> String {
        match self.seen {
            0 => "no answer's text".into(),
            seen => format!("{} not in {seen} bytes, {}", quote(self.needle), quote(&self.head)),
        }
    }
}

pub(super) async fn ask(question: Question<'_>, text: &TextProbe) -> Answer {
    if text.udp { datagram(question, text).await } else { stream(question, text).await }
}

async fn stream(question: Question<'_>, text: &TextProbe) -> Answer {
    let mut stream = open(question).await?.stream;
    let broken = |e: std::io::Error| Fault::Backend(format!("connection: {e}"));
    stream.write_all(&text.send).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut search = Search::new(&text.expect);
    let mut buffer = vec![0; 4096];
    while !search.is_over() {
        match stream.read(&mut buffer).await {
            Ok(0) => break,
            Ok(length) => search.take(&buffer[..length]),
            // An end of TCP without one of TLS is an end.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(broken(error)),
        }
    }
    Ok(verdict(&search))
}

async fn datagram(question: Question<'_>, text: &TextProbe) -> Answer {
    let socket = udp(question).await?;
    // The port's refusal comes with the next call.
    let refused = |e: std::io::Error| blame("UDP", &e);
    socket.send(&text.send).await.map_err(refused)?;
    let mut search = Search::new(&text.expect);
    let mut buffer = vec![0; MAX_DATAGRAM];
    let mut empty = false;
    while !search.is_over() && !empty {
        let length = socket.recv(&mut buffer).await.map_err(refused)?;
        search.take(&buffer[..length]);
        // A datagram of nothing is an answer, too.
        empty = length == 0 && text.expect.is_empty();
    }
    Ok(if empty { (true, "answered".into()) } else { verdict(&search) })
}

fn verdict(search: &Search<'_>) -> (bool, String) {
    if search.found() { (true, "answered".into()) } else { (false, search.lacks()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_text_is_found_however_it_is_cut(
            haystack in "[ab]{0,40}",
            needle in "[ab]{0,4}",
            cuts in prop::collection::vec(0usize..41, 0..6),
        ) {
            let bytes = haystack.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort();
            let mut search = Search::new(needle.as_bytes());
            cuts.windows(2).for_each(|pair| search.take(&bytes[pair[0]..pair[1]]));
            prop_assert_eq!(search.found(), haystack.contains(&needle) && !haystack.is_empty());
        }
    }

    #[test]
    fn no_more_is_looked_at_than_the_bound() {
        let mut search = Search::new(b"b");
        search.take(&vec![b'a'; MAX_ANSWER - 1]);
        assert!(!search.is_over());
        search.take(b"ab");
        assert!(search.is_over() && !search.found());
        assert!(search.lacks().starts_with("\"b\" not in 65536 bytes, \"aaa"), "{}", search.lacks());
    }
}
