//! The edge's own cookie: base64url of `name (8) · nonce (12) · AES-256-GCM(made (8) · port (2) · address (4 or 16))`.
//! Name and key are derived (HKDF-SHA-256) from the keys of session tickets, or of a file, for one pool and one cookie's
//! name: what another pool sealed does not open. Edges with the same keys open each other's.

use crate::api::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use std::net::{IpAddr, SocketAddr};

const NAME: usize = 8;
const TIME: usize = 8;
const PORT: usize = 2;
/// A clock that differs so much from the one that made a cookie is another edge's; seconds.
const SKEW: u64 = 60;
/// Longest value of a cookie of ours, with room.
const MAX_COOKIE: usize = 128;

/// Makes and opens the cookies of a pool.
pub(crate) struct Seal {
    /// The first seals.
    keys: Vec<Key>,
    random: SystemRandom,
}

struct Key {
    name: [u8; NAME],
    key: LessSafeKey,
}

/// What a cookie says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) backend: SocketAddr,
    /// Seconds since it was made.
    pub(crate) age: u64,
    /// Whether it was sealed with the key that seals now.
    pub(crate) current: bool,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal").field("keys", &self.keys.len()).finish()
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Seal {
    /// None without a key.
    pub(crate) fn new(secrets: &[Secret], pool: &str, cookie: &str) -> Option<Self> {
        let keys: Vec<Key> = secrets.iter().filter_map(|secret| derive(secret.expose(), pool, cookie)).collect();
        (!keys.is_empty()).then_some(Seal { keys, random: SystemRandom::new() })
    }

    /// The value that sends a client to this backend; `now`: seconds of the epoch.
    pub(crate) fn seal(&self, backend: SocketAddr, now: u64) -> Option<String> {
        let key = self.keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut bytes = Vec::with_capacity(NAME + NONCE_LEN + TIME + PORT + 16 + AES_256_GCM.tag_len());
        bytes.extend_from_slice(&key.name);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&now.to_be_bytes());
        bytes.extend_from_slice(&backend.port().to_be_bytes());
        match backend.ip() {
            IpAddr::V4(ip) => bytes.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes.extend_from_slice(&ip.octets()),
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = &mut bytes[NAME + NONCE_LEN..];
        let tag = key.key.seal_in_place_separate_tag(nonce, Aad::from(&key.name), sealed).ok()?;
        bytes.extend_from_slice(tag.as_ref());
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// None: it is none of ours.
    pub(crate) fn open(&self, value: &[u8], now: u64) -> Option<Opened> {
        if value.len() > MAX_COOKIE {
            return None;
        }
        let mut bytes = [0; MAX_COOKIE];
        let length = URL_SAFE_NO_PAD.decode_slice(value, &mut bytes).ok()?;
        let (name, rest) = bytes[..length].split_at_mut_checked(NAME)?;
        let (nonce, sealed) = rest.split_at_mut_checked(NONCE_LEN)?;
        // The name is public: which key is tried tells nobody anything.
        let (place, key) = self.keys.iter().enumerate().find(|(_, key)| key.name == *name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = key.key.open_in_place(nonce, Aad::from(&*name), sealed).ok()?;
        let (made, rest) = plain.split_first_chunk::<TIME>()?;
        let (port, ip) = rest.split_first_chunk::<PORT>()?;
        let ip = match *ip {
            [a, b, c, d] => IpAddr::from([a, b, c, d]),
            _ => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
        };
        let made = u64::from_be_bytes(*made);
        let backend = SocketAddr::new(ip, u16::from_be_bytes(*port));
        // Made later than now: by another edge's clock.
        (made <= now + SKEW).then_some(Opened { backend, age: now.saturating_sub(made), current: place == 0 })
    }
}

/// Where a cookie leads, for those who try to break it.
pub fn open_session_cookie(keys: &[Secret], pool: &str, cookie: &str, value: &[u8], now: u64) -> Option<SocketAddr> {
    Some(Seal::new(keys, pool, cookie)?.open(value, now)?.backend)
}

fn derive(secret: &[u8], pool: &str, cookie: &str) -> Option<Key> {
    let prk = Salt::new(HKDF_SHA256, b"bailey session cookies").extract(secret);
    let length = [(pool.len() as u64).to_be_bytes()];
    let (mut name, mut key) = ([0; NAME], [0; 32]);
    for (what, out) in [(&b"name"[..], &mut name[..]), (b"key", &mut key[..])] {
        let info = [what, &length[0], pool.as_bytes(), cookie.as_bytes()];
        prk.expand(&info, Length(out.len())).ok()?.fill(out).ok()?;
    }
    Some(Key { name, key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000;

    fn seal(seeds: &[u8], pool: &str) -> Seal {
        let secrets: Vec<Secret> = seeds.iter().map(|seed| Secret::new(vec![*seed; 48])).collect();
        Seal::new(&secrets, pool, "sid").unwrap()
    }

    #[test]
    fn edges_with_a_key_in_common_open_each_others_cookies_and_other_pools_do_not() {
        let backend = "[2001:db8::7]:8443".parse().unwrap();
        let value = seal(&[1, 2], "web").seal(backend, NOW).unwrap();
        let opened = seal(&[2, 1], "web").open(value.as_bytes(), NOW + 5);
        assert_eq!(opened, Some(Opened { backend, age: 5, current: false }));
        assert!(seal(&[1], "web").open(value.as_bytes(), NOW).unwrap().current);
        assert_eq!(seal(&[2, 3], "web").open(value.as_bytes(), NOW), None);
        assert_eq!(seal(&[1], "api").open(value.as_bytes(), NOW), None);
        assert_eq!(seal(&[1], "web").open(value.as_bytes(), NOW - 61), None, "of the future");
        assert!(Seal::new(&[], "web", "sid").is_none());
    }

    #[test]
    fn a_cookie_shows_nothing_and_no_two_are_the_same() {
        let all = seal(&[1], "web");
        let backend = "10.0.0.1:80".parse().unwrap();
        let (a, b) = (all.seal(backend, NOW).unwrap(), all.seal(backend, NOW).unwrap());
        assert_ne!(a, b);
        assert_eq!(a.len(), b.len());
        assert!(a.len() <= MAX_COOKIE && a.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c)), "{a}");
    }

    proptest! {
        #[test]
        fn what_was_changed_does_not_open(ip: [u8; 4], port: u16, at: usize, bit in 0u8..7) {
            let all = seal(&[1, 2, 3], "web");
            let backend = SocketAddr::from((ip, port));
            let mut value = all.seal(backend, NOW).unwrap().into_bytes();
            prop_assert_eq!(all.open(&value, NOW).map(|o| o.backend), Some(backend));
            let at = at % value.len();
            prop_assert_eq!(all.open(&value[..at], NOW), None);
            value[at] ^= 1 << bit;
            prop_assert_eq!(all.open(&value, NOW), None);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(seal(&[1], "web").open(&bytes, NOW), None);
        }
    }
}
