//! Regular expressions, in time linear in what they are held against and within bounds of memory.

use regex::bytes::{Regex, RegexBuilder};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Longest expression, bytes.
const MAX_LENGTH: usize = 1 << 10;
/// Deepest nesting of groups.
const MAX_DEPTH: u32 = 50;
/// What an expression may take when it is ready, and each thread's cache of it, bytes.
const MAX_SIZE: usize = 1 << 20;
/// Expressions that a thread keeps its own of. More than a config has in use at once; those of older ones are
/// forgotten.
const MAX_OWN: usize = 4096;

/// What is wrong with a regular expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct PatternError {
    /// Where in it, bytes.
    pub at: Range<usize>,
    /// What.
    pub problem: String,
}

/// See that a regular expression is one, and within its bounds.
///
/// # Errors
/// Where it is wrong, and what is.
pub fn check_pattern(text: &str) -> Result<(), PatternError> {
    Pattern::new(text).map(drop)
}

/// A regular expression of bytes.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    id: u64,
    regex: Regex,
}

thread_local! {
    /// This thread's own of each: what a search needs beside the expression stands in a pool that threads would share,
    /// and wait for each other at.
    static OWN: RefCell<HashMap<u64, Regex>> = RefCell::default();
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Result<Pattern, PatternError> {
        let whole = |problem: String| PatternError { at: 0..text.len(), problem };
        if text.len() > MAX_LENGTH {
            return Err(whole(format!("longer than {MAX_LENGTH} bytes")));
        }
        let mut parser = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).nest_limit(MAX_DEPTH).build();
        if let Err(error) = parser.parse(text) {
            let (span, problem) = match &error {
                regex_syntax::Error::Parse(error) => (Some(*error.span()), error.kind().to_string()),
                regex_syntax::Error::Translate(error) => (Some(*error.span()), error.kind().to_string()),
                other => (None, other.to_string()),
            };
            let at = span.map_or(0..text.len(), |span| span.start.offset..span.end.offset);
            return Err(PatternError { at, problem });
        }
        let mut builder = RegexBuilder::new(text);
        builder.unicode(false).nest_limit(MAX_DEPTH).size_limit(MAX_SIZE).dfa_size_limit(MAX_SIZE);
        let regex = builder.build().map_err(|_| whole(format!("it would take more than {MAX_SIZE} bytes")))?;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Ok(Pattern { id: NEXT.fetch_add(1, Relaxed), regex })
    }

    /// Whether it is found in this.
    pub(crate) fn is_match(&self, bytes: &[u8]) -> bool {
        self.own(|regex| regex.is_match(bytes))
    }

    /// This with what is found first replaced; `$1` and `${name}` stand for groups. None: nothing is found.
    pub(crate) fn replaced(&self, bytes: &[u8], with: &[u8]) -> Option<Vec<u8>> {
        self.own(|regex| {
            let groups = regex.captures(bytes)?;
            let found = groups.get(0)?;
            let mut out = bytes[..found.start()].to_vec();
            groups.expand(with, &mut out);
            out.extend_from_slice(&bytes[found.end()..]);
            Some(out)
        })
    }

    fn own<T>(&self, with: impl FnOnce(&Regex) -> T) -> T {
        OWN.with_borrow_mut(|own| {
            if own.len() >= MAX_OWN && !own.contains_key(&self.id) {
                own.clear();
            }
            with(own.entry(self.id).or_insert_with(|| self.regex.clone()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_has_a_place() {
        for (text, at, problem) in [
            ("^/a(b", 3..4, "unclosed group"),
            ("/a{2,1}", 2..7, "invalid repetition count range"),
            ("[z-a]", 1..4, "invalid character class range"),
            ("a\\", 1..2, "incomplete escape"),
            ("\\pL", 0..3, "Unicode"),
            ("(?:a{1000}){1000}", 0..17, "more than 1048576 bytes"),
        ] {
            let error = Pattern::new(text).unwrap_err();
            assert_eq!(error.at, at, "{text}: {error}");
            assert!(error.problem.contains(problem), "{text}: {error}");
        }
        assert!(Pattern::new(&"a".repeat(MAX_LENGTH + 1)).is_err());
        assert!(Pattern::new(&"(".repeat(500)).is_err());
    }

    #[test]
    fn groups_stand_in_what_replaces() {
        let pattern = Pattern::new("^/(?P<user>[a-z]+)/(.*)$").unwrap();
        assert_eq!(pattern.replaced(b"/joe/x/y", b"/u/${user}?p=$2").unwrap(), b"/u/joe?p=x/y");
        assert_eq!(pattern.replaced(b"/1/x", b"x"), None);
        assert!(!pattern.is_match(b"\xff\xfe"));
    }
}
