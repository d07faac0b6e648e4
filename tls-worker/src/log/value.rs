//! Values in lines: whatever a client sends, a line stays one line, and a field one field.

use std::fmt::Write as _;

/// Longest value of one field, bytes.
pub(super) const MAX_VALUE: usize = 4 << 10;

/// As it stands within the quotes of a JSON string. Bytes that are no UTF-8 are replaced.
pub(super) fn json(to: &mut Vec<u8>, value: &[u8]) {
    let text = String::from_utf8_lossy(&value[..value.len().min(MAX_VALUE)]);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // C1 moves terminals as C0 does, and U+2028 ends lines of JavaScript.
            '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    to.extend_from_slice(out.as_bytes());
}

/// As Apache writes it: quotes and backslashes behind a backslash, what is not printable ASCII as `\xhh`.
pub(super) fn apache(to: &mut Vec<u8>, value: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in &value[..value.len().min(MAX_VALUE)] {
        match byte {
            b'"' | b'\\' => to.extend([b'\\', *byte]),
            b'\n' => to.extend(b"\\n"),
            b'\r' => to.extend(b"\\r"),
            b'\t' => to.extend(b"\\t"),
            b' '..=b'~' => to.push(*byte),
            _ => to.extend([b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(escape: fn(&mut Vec<u8>, &[u8]), value: &[u8]) -> String {
        let mut out = Vec::new();
        escape(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_values() {
        assert_eq!(of(json, b"a\"b\\c\nd\x1b[2J\x00"), r#"a\"b\\c\nd\u001b[2J\u0000"#);
        assert_eq!(of(json, "\u{e4}\u{9b}\u{2028}".as_bytes()), "\u{e4}\\u009b\\u2028");
        assert_eq!(of(apache, b"a\"b\\c\nd\x1b[2J\xff"), r#"a\"b\\c\nd\x1b[2J\xff"#);
    }

    proptest! {
        #[test]
        fn a_value_is_one_field_of_one_line(value in prop::collection::vec(any::<u8>(), 0..200)) {
            let text = format!("\"{}\"", of(json, &value));
            let read: String = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read, String::from_utf8_lossy(&value));
            prop_assert!(!text.chars().any(char::is_control));
            let text = of(apache, &value);
            prop_assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)));
            // No quote that is not behind a backslash ends the field.
            let mut rest = text.as_str();
            while let Some(at) = rest.find(['\\', '"']) {
                prop_assert_ne!(rest.as_bytes()[at], b'"');
                rest = &rest[at + 2..];
            }
        }
    }
}
