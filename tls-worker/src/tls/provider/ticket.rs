//! Session tickets: what a client keeps of its session, sealed so that only this edge, or one with the same keys, can
//! open it. Nothing is kept here, so every thread, worker and edge resumes what another began.
//!
//! A ticket is `name (16) · nonce (12) · AES-256-GCM(time (8) · session)`. Name and key are derived (HKDF-SHA-256) from
//! one of [`TicketKeys`] and a scope: whatever must not share sessions has another scope, and cannot open the other's.

use crate::api::{MAX_TICKET_LIFETIME, TicketKeys};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

const NAME: usize = 16;
const TIME: usize = 8;
/// A clock that differs so much from the one that made a ticket is another edge's; seconds.
const SKEW: u64 = 60;

/// Makes and opens the tickets of one scope.
struct Tickets {
    /// The first seals.
    keys: Vec<Key>,
    lifetime: u32,
    random: SystemRandom,
}

struct Key {
    name: [u8; NAME],
    key: LessSafeKey,
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets").field("keys", &self.keys.len()).field("lifetime", &self.lifetime).finish()
    }
}

/// Tickets of a scope. None where there is no key: no session is resumed then.
pub(crate) fn ticketer(keys: &TicketKeys, scope: &[u8]) -> Option<Arc<dyn ProducesTickets>> {
    let lifetime = keys.lifetime_seconds.min(MAX_TICKET_LIFETIME);
    let keys: Vec<Key> = keys.keys.iter().filter_map(|key| derive(key.expose(), scope)).collect();
    if keys.is_empty() {
        return None;
    }
    Some(Arc::new(Tickets { keys, lifetime, random: SystemRandom::new() }))
}

fn derive(secret: &[u8], scope: &[u8]) -> Option<Key> {
    let prk = Salt::new(HKDF_SHA256, b"bailey session tickets").extract(secret);
    let name = expand::<NAME>(&prk, &[b"name", scope])?;
    let key = expand::<32>(&prk, &[b"key", scope])?;
    Some(Key { name, key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).ok()?) })
}

fn expand<const N: usize>(prk: &Prk, info: &[&[u8]]) -> Option<[u8; N]> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut out = [0; N];
    prk.expand(info, Length(N)).ok()?.fill(&mut out).ok()?;
    Some(out)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs())
}

impl Tickets {
    fn seal(&self, session: &[u8], now: u64) -> Option<Vec<u8>> {
        let key = self.keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let tag = AES_256_GCM.tag_len();
        let mut ticket = Vec::with_capacity(NAME + NONCE_LEN + TIME + session.len() + tag);
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(&now.to_be_bytes());
        ticket.extend_from_slice(session);
        let sealed = &mut ticket[NAME + NONCE_LEN..];
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key.key.seal_in_place_separate_tag(nonce, Aad::from(&key.name), sealed).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn open(&self, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        // The name is public: which key is tried tells nobody anything.
        let key = self.keys.iter().find(|key| key.name == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut opened = sealed.to_vec();
        let plain = key.key.open_in_place(nonce, Aad::from(name), &mut opened).ok()?;
        let made = u64::from_be_bytes(plain.get(..TIME)?.try_into().ok()?);
        let fresh = made <= now + SKEW && now.saturating_sub(made) <= u64::from(self.lifetime);
        let session = plain.get(TIME..)?.to_vec();
        fresh.then_some(session)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{MIN_TICKET_KEY, Secret};
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000;

    fn tickets(seeds: &[u8], scope: &[u8]) -> Tickets {
        let keys = seeds.iter().filter_map(|seed| derive(&[*seed; MIN_TICKET_KEY], scope)).collect();
        Tickets { keys, lifetime: 100, random: SystemRandom::new() }
    }

    #[test]
    fn edges_with_a_key_in_common_open_each_others_tickets_and_others_do_not() {
        let ticket = tickets(&[1, 2], b"web").seal(b"session", NOW).unwrap();
        assert_eq!(tickets(&[2, 1], b"web").open(&ticket, NOW).as_deref(), Some(&b"session"[..]));
        assert_eq!(tickets(&[2, 3], b"web").open(&ticket, NOW), None);
        assert_eq!(tickets(&[1, 2], b"web, but with client certificates").open(&ticket, NOW), None);
    }

    #[test]
    fn a_ticket_ends_with_its_lifetime() {
        let all = tickets(&[1], b"");
        let ticket = all.seal(b"s", NOW).unwrap();
        for (at, good) in [(NOW - 60, true), (NOW - 61, false), (NOW + 100, true), (NOW + 101, false)] {
            assert_eq!(all.open(&ticket, at).is_some(), good, "{at}");
        }
    }

    #[test]
    fn without_keys_nothing_is_resumed() {
        assert!(ticketer(&TicketKeys::default(), b"x").is_none());
        let keys = TicketKeys { keys: vec![Secret::new(vec![7; 48])], lifetime_seconds: 3600 };
        let made = ticketer(&keys, b"x").unwrap();
        assert_eq!((made.lifetime(), made.enabled()), (3600, true));
        assert_eq!(made.decrypt(&made.encrypt(b"abc").unwrap()).as_deref(), Some(&b"abc"[..]));
    }

    proptest! {
        #[test]
        fn what_was_changed_does_not_open(session in prop::collection::vec(any::<u8>(), 0..200), at: usize, bit in 0u8..8) {
            let all = tickets(&[1, 2, 3], b"s");
            let mut ticket = all.seal(&session, NOW).unwrap();
            prop_assert_eq!(all.open(&ticket, NOW), Some(session));
            let at = at % ticket.len();
            ticket[at] ^= 1 << bit;
            prop_assert_eq!(all.open(&ticket, NOW), None);
            prop_assert_eq!(all.open(&ticket[..at], NOW), None);
        }
    }
}
