//! Files of ticket keys: base64, one key a line, as HAProxy's `tls-ticket-keys`.

use super::super::files::Bad;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::ops::RangeInclusive;
use tls_worker::api::{MIN_TICKET_KEY, Secret};
use zeroize::Zeroizing;

/// Bytes of a key; HAProxy's have 48 or 80.
const LENGTH: RangeInclusive<usize> = MIN_TICKET_KEY..=80;
/// So many count, the last ones.
const KEYS: usize = 3;
const HELP: &str = "a key a line, the newest last: openssl rand -base64 48 >> FILE";

/// The keys that count, the one that encrypts first. It is the last but one, so that a new key can be appended on every
/// edge before any of them uses it; of a single key that one.
pub(in crate::config) fn keys(bytes: &[u8]) -> Result<Vec<Secret>, Bad> {
    let bad = |message: String| Bad { message, help: HELP.into() };
    let mut keys: Vec<Zeroizing<Vec<u8>>> = Vec::new();
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let mut key = Zeroizing::new(vec![0; line.len() / 4 * 3 + 3]);
        let length = STANDARD.decode_slice(line, &mut key).map_err(|_| bad(format!("line {number} is no base64")))?;
        key.truncate(length);
        if !LENGTH.contains(&length) {
            let (least, most) = (LENGTH.start(), LENGTH.end());
            return Err(bad(format!("line {number} is a key of {length} bytes, not of {least} to {most}")));
        }
        if keys.contains(&key) {
            return Err(bad(format!("line {number} is a key that stands above already")));
        }
        keys.push(key);
    }
    let last = keys.len().saturating_sub(KEYS);
    let mut counted: Vec<Secret> = keys.drain(last..).map(|mut key| Secret::new(std::mem::take(&mut *key))).collect();
    match counted.len() {
        0 => return Err(bad("it holds no key".into())),
        1 => {}
        many => {
            let encrypts = counted.remove(many - 2);
            counted.insert(0, encrypts);
        }
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(byte: u8, length: usize) -> String {
        STANDARD.encode(vec![byte; length]) + "\n"
    }

    #[test]
    fn the_last_but_one_of_the_last_three_encrypts() {
        let order = |text: &str| -> Vec<u8> {
            let keys = keys(text.as_bytes()).map_err(|bad| bad.message).unwrap();
            keys.iter().map(|key| key.expose()[0]).collect()
        };
        let lines: Vec<String> = (1..=4).map(|n| line(n, 48)).collect();
        assert_eq!(order(&lines[0]), [1]);
        assert_eq!(order(&lines[..2].concat()), [1, 2]);
        assert_eq!(order(&lines[..3].concat()), [2, 1, 3]);
        assert_eq!(order(&(lines.concat() + "\n")), [3, 2, 4]);
        assert_eq!(order(&line(9, 80).replace('\n', "\r\n")), [9]);
    }

    #[test]
    fn a_bad_line_is_named() {
        let said = |text: String| keys(text.as_bytes()).map_err(|bad| bad.message).unwrap_err();
        assert_eq!(said(String::new()), "it holds no key");
        assert_eq!(said(line(1, 48) + "***"), "line 2 is no base64");
        assert_eq!(said(line(1, 31)), "line 1 is a key of 31 bytes, not of 32 to 80");
        assert_eq!(said(line(1, 48) + &line(1, 48)), "line 2 is a key that stands above already");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = keys(&bytes);
        }
    }
}
