//! Which bytes may stand where (RFC 9110, 5.5 and 5.6.2; RFC 3986).

/// Of a method, of a header's name.
const TOKEN: [bool; 256] = {
    let mut token = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let mark = matches!(b, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        token[byte] = b.is_ascii_alphanumeric() || mark;
        byte += 1;
    }
    token
};

pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| TOKEN[usize::from(*byte)])
}

/// No control characters but the tab. Bytes above ASCII are text of an unknown charset, and common.
pub(super) fn is_value(bytes: &[u8]) -> bool {
    // Without a way out of the loop and without a table: many bytes at once.
    !bytes.iter().fold(false, |bad, byte| bad | ((*byte < b' ') & (*byte != b'\t')) | (*byte == 0x7f))
}

/// Printable ASCII.
pub(super) fn is_target(bytes: &[u8]) -> bool {
    !bytes.is_empty() && !bytes.iter().fold(false, |bad, byte| bad | (*byte <= b' ') | (*byte >= 0x7f))
}

/// Without the spaces and tabs around it.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
