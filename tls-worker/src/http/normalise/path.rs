//! The policy of paths. What others read in more than one way is refused, or put into the form that has one meaning:
//! `..` (and `%2e%2e`), `//`, an encoded slash, a character that is encoded for nothing.

use crate::api::{PathPolicy, PathRule};
use std::borrow::Cow;

/// The path in its form. None: the policy refuses it.
pub(super) fn normal<'p>(path: &'p str, policy: &PathPolicy) -> Option<Cow<'p, str>> {
    if is_plain(path.as_bytes()) {
        return Some(Cow::Borrowed(path));
    }
    let decoded = decode(path, policy)?;
    let normal = segments(&decoded, policy)?;
    Some(if normal == path { Cow::Borrowed(path) } else { Cow::Owned(normal) })
}

/// Whether there is nothing to be asked: what nearly every path is.
fn is_plain(path: &[u8]) -> bool {
    let mut last = b'x';
    path.iter().all(|byte| {
        let escapes = matches!(byte, b'%' | b'\\');
        let begins_segment = last == b'/' && matches!(byte, b'/' | b'.');
        last = *byte;
        !(escapes || begins_segment)
    })
}

/// Escapes, by the policy.
fn decode(path: &str, policy: &PathPolicy) -> Option<String> {
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(path.len());
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte == b'\\' {
            slash(&mut out, "\\", policy)?;
        } else if byte != b'%' {
            out.push(char::from(byte));
        } else {
            let digits = bytes.get(at + 1..at + 3).and_then(hex);
            let text = path.get(at..at + 3);
            match (digits, text) {
                (Some(b'/' | b'\\'), Some(text)) => slash(&mut out, text, policy)?,
                (Some(0..=0x1f | 0x7f), _) | (None, _) | (_, None) if policy.percent_encoding != PathRule::Keep => {
                    return None;
                }
                (Some(plain), Some(text)) if is_unreserved(plain) => match policy.percent_encoding {
                    PathRule::Reject => return None,
                    PathRule::Normalize => out.push(char::from(plain)),
                    PathRule::Keep => out.push_str(text),
                },
                (Some(_), Some(text)) => out.push_str(text),
                _ => {
                    out.push('%');
                    at += 1;
                    continue;
                }
            }
            at += 3;
            continue;
        }
        at += 1;
    }
    Some(out)
}

fn slash(out: &mut String, text: &str, policy: &PathPolicy) -> Option<()> {
    match policy.encoded_slashes {
        PathRule::Reject => return None,
        PathRule::Normalize => out.push('/'),
        PathRule::Keep => out.push_str(text),
    }
    Some(())
}

/// Slashes and dot segments, by the policy.
fn segments(path: &str, policy: &PathPolicy) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match dots(part) {
            Dots::None => {}
            _ if policy.dot_segments == PathRule::Keep => {}
            _ if policy.dot_segments == PathRule::Reject => return None,
            Dots::Hidden => return None,
            found => {
                if found == Dots::Up {
                    // Above the root there is nothing.
                    out.truncate(out.rfind('/')?);
                }
                if last {
                    out.push('/');
                }
                continue;
            }
        }
        if part.is_empty() && !last {
            match policy.double_slashes {
                PathRule::Reject => return None,
                PathRule::Normalize => continue,
                PathRule::Keep => {}
            }
        }
        out.push('/');
        out.push_str(part);
    }
    Some(out)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dots {
    None,
    Here,
    Up,
    /// For one who decodes slashes, or takes parameters off segments, and for nobody else.
    Hidden,
}

fn dots(segment: &str) -> Dots {
    let plain = |text: &str| match text.to_ascii_lowercase().replace("%2e", ".").as_str() {
        "." => Dots::Here,
        ".." => Dots::Up,
        _ => Dots::None,
    };
    if !segment.contains(['.', '%']) {
        return Dots::None;
    }
    match plain(segment) {
        Dots::None => {}
        found => return found,
    }
    let lower = segment.to_ascii_lowercase().replace("%2f", "/").replace("%5c", "/").replace('\\', "/");
    let mut pieces = lower.split('/').map(|piece| piece.split(';').next().unwrap_or(""));
    if pieces.any(|piece| plain(piece) != Dots::None) { Dots::Hidden } else { Dots::None }
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((digit(digits[0])? << 4 | digit(digits[1])?) as u8)
}

/// RFC 3986, 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_default(path: &str) -> Option<String> {
        normal(path, &PathPolicy::default()).map(Cow::into_owned)
    }

    #[test]
    fn by_default_a_path_has_one_form() {
        for (path, form) in [
            ("/", Some("/")),
            ("/a/b.c/.d/..e/f.", Some("/a/b.c/.d/..e/f.")),
            ("/a/./b/../c", Some("/a/c")),
            ("/a/b/..", Some("/a/")),
            ("/a/.", Some("/a/")),
            ("/a/%2e%2E/b", Some("/b")),
            ("/a/.%2e/%61dmin", Some("/admin")),
            ("//a///b//", Some("/a/b/")),
            ("/..", None),
            ("/a/../../b", None),
            ("/a%2Fb%5cc", Some("/a%2Fb%5cc")),
            ("/a/..%2fb", None),
            ("/a/..%5Cb", None),
            ("/a/%2e%2e%2fb", None),
            ("/a/..\\b", None),
            ("/a/..;x/b", None),
            ("/a%00b", None),
            ("/a%0d%0ab", None),
            ("/100%", None),
            ("/a%zz", None),
            ("/a%4", None),
            ("/%e2%82%ac/%20", Some("/%e2%82%ac/%20")),
            ("/%252e%252e/", Some("/%252e%252e/")),
        ] {
            assert_eq!(by_default(path).as_deref(), form, "{path}");
        }
    }

    #[test]
    fn each_rule_can_refuse_and_keep() {
        let rules = |dots, slashes, encoded, percent| PathPolicy {
            dot_segments: dots,
            double_slashes: slashes,
            encoded_slashes: encoded,
            percent_encoding: percent,
        };
        use PathRule::{Keep, Normalize, Reject};
        let keep = rules(Keep, Keep, Keep, Keep);
        for path in ["/a/../b", "//a", "/a%2fb", "/%61", "/%00", "/%", "/%zz/..;/%2e\\"] {
            assert_eq!(normal(path, &keep).as_deref(), Some(path));
        }
        for (path, refusing) in [
            ("/a/./b", rules(Reject, Keep, Keep, Keep)),
            ("/a/%2e", rules(Reject, Keep, Keep, Keep)),
            ("/a//b", rules(Keep, Reject, Keep, Keep)),
            ("/a%2Fb", rules(Keep, Keep, Reject, Keep)),
            ("/a\\b", rules(Keep, Keep, Reject, Keep)),
            ("/%41", rules(Keep, Keep, Keep, Reject)),
        ] {
            assert_eq!(normal(path, &refusing), None, "{path}");
        }
        let decoding = rules(Normalize, Normalize, Normalize, Normalize);
        assert_eq!(normal("/a%2f..%5Cb\\c", &decoding).as_deref(), Some("/b/c"));
    }

    proptest! {
        #[test]
        fn a_form_is_its_own_and_climbs_nowhere(path in "(/(\\.|%2e|%2F|%61|a|;|//)*){1,5}") {
            if let Some(form) = by_default(&path) {
                prop_assert_eq!(by_default(&form), Some(form.clone()));
                prop_assert!(form.starts_with('/') && !form.contains("//"));
                prop_assert!(form.split('/').all(|part| part != "." && part != ".."));
            }
        }
    }
}
