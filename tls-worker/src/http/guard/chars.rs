//! Which bytes may stand where (RFC 9110, 5.5 and 5.6.2; RFC 3986).

/// Of a method, of a header's name.
const TOKEN: u8 = 1;
/// Of a header's value.
const VALUE: u8 = 2;
/// Of a request target: printable ASCII.
const TARGET: u8 = 4;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let mark = matches!(b, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        if b.is_ascii_alphanumeric() || mark {
            classes[byte] |= TOKEN;
        }
        // Bytes above ASCII are text of an unknown charset, and common.
        if b == b'\t' || (b >= b' ' && b != 0x7f) {
            classes[byte] |= VALUE;
        }
        if b > b' ' && b < 0x7f {
            classes[byte] |= TARGET;
        }
        byte += 1;
    }
    classes
};

fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().fold(class, |all, byte| all & CLASSES[usize::from(*byte)]) != 0
}

pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TOKEN)
}

pub(super) fn is_value(bytes: &[u8]) -> bool {
    all(bytes, VALUE)
}

pub(super) fn is_target(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TARGET)
}

/// Without the spaces and tabs around it.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
