//! Persistence: a client that comes again goes to the backend that it had. `seal` makes the edge's own cookie, `table`
//! remembers what else clients are known by, [`Pinning`] is a pool's way of it in a generation, [`Pin`] one request's
//! or connection's.
//!
//! Threads must agree at once where a client goes: the table is shared by all, and lock-free. It is kept across
//! generations by the pool's name.

mod keeper;
mod pin;
mod seal;
mod table;

pub(crate) use keeper::Keeper;
pub(crate) use pin::Pin;
use seal::Opened;
pub use seal::open_session_cookie;
pub(crate) use table::Table;

use crate::api::{self, BackendState, PersistBy, SameSite, TicketKeys};
use crate::clock::{self, Millis};
use crate::vars::Template;
use ring::digest::{SHA256, digest};
use seal::Seal;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Keys longer than this are kept by their digest, bytes.
const MAX_KEY: usize = 128;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pinning {
    pub(crate) by: By,
    pub(crate) timeout: Millis,
    pub(crate) max_entries: usize,
    /// None: cookies need none.
    pub(crate) table: Option<Arc<Table>>,
    drain_timeout: Millis,
    /// What `table` is keyed by.
    kind: PersistBy,
    /// Backends that drain, and since when.
    draining: HashMap<SocketAddr, Millis>,
}

/// What clients are known by.
#[derive(Debug)]
pub(crate) enum By {
    /// Bits of an IPv4, an IPv6 address.
    Source(u8, u8),
    Cookie(Cookie),
    AppCookie(Box<str>),
    /// A text, and whether it may be a credential.
    Key(Template, bool),
}

/// The edge's own cookie.
#[derive(Debug)]
pub(crate) struct Cookie {
    pub(crate) name: Box<str>,
    pub(crate) secure: Option<bool>,
    pub(crate) seal: Seal,
    /// What follows the value in `Set-Cookie`, but for `Secure`.
    pub(crate) attributes: String,
}

impl Pinning {
    /// `before`: the same pool's of the last generation.
    pub(crate) fn new(
        pool: &api::Pool,
        tickets: &TicketKeys,
        before: Option<&Pinning>,
    ) -> Result<Option<Self>, String> {
        let Some(settings) = &pool.persistence else { return Ok(None) };
        let by = match &settings.by {
            PersistBy::Source { v4: v4 @ 1..=32, v6: v6 @ 1..=128 } => By::Source(*v4, *v6),
            PersistBy::Source { .. } => return Err("a prefix of no address".into()),
            PersistBy::Cookie(cookie) => By::Cookie(Cookie::new(cookie, &pool.name, tickets)?),
            PersistBy::AppCookie(name) => By::AppCookie(name.as_str().into()),
            PersistBy::Key { text, secret } => {
                let text = Template::parse(text).map_err(|error| format!("persistence key {text:?}: {error}"))?;
                By::Key(text, *secret)
            }
        };
        let before = before.filter(|before| before.kind == settings.by);
        let table = match (&by, before.and_then(|before| before.table.as_ref())) {
            (By::Cookie(_), _) => None,
            (_, Some(same)) => Some(same.clone()),
            (_, None) => Some(Arc::default()),
        };
        let since = |address| before.and_then(|before| before.draining.get(address)).copied();
        let drain = pool.backends.iter().filter(|backend| backend.state == BackendState::Draining);
        Ok(Some(Pinning {
            by,
            timeout: clock::millis(settings.timeout),
            max_entries: settings.max_entries as usize,
            table,
            drain_timeout: clock::millis(settings.drain_timeout),
            kind: settings.by.clone(),
            draining: drain.map(|b| (b.address, since(&b.address).unwrap_or_else(clock::now))).collect(),
        }))
    }

    /// Whether a backend of this state keeps the clients that it has.
    pub(crate) fn keeps(&self, backend: SocketAddr, state: BackendState, now: Millis) -> bool {
        match state {
            BackendState::Up => true,
            BackendState::Draining => {
                self.draining.get(&backend).is_none_or(|since| now < since.saturating_add(self.drain_timeout))
            }
            BackendState::Down | BackendState::Disabled => false,
        }
    }

    /// The key of a client's address.
    pub(crate) fn source(&self, address: IpAddr) -> Option<Arc<str>> {
        let By::Source(v4, v6) = self.by else { return None };
        Some(prefix(address, v4, v6).into())
    }
}

impl Cookie {
    fn new(cookie: &api::SessionCookie, pool: &str, tickets: &TicketKeys) -> Result<Self, String> {
        let keys = if cookie.keys.is_empty() { &tickets.keys } else { &cookie.keys };
        let seal = Seal::new(keys, pool, &cookie.name)
            .ok_or("its cookie has no key to be sealed with: there are no ticket keys")?;
        let mut attributes = format!("; Path={}", cookie.path);
        let same_site = match cookie.same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        };
        if let Some(domain) = &cookie.domain {
            let _ = write!(attributes, "; Domain={domain}");
        }
        if let Some(age) = cookie.max_age {
            let _ = write!(attributes, "; Max-Age={}", age.as_secs());
        }
        let _ = write!(attributes, "; SameSite={same_site}");
        if cookie.http_only {
            attributes.push_str("; HttpOnly");
        }
        Ok(Cookie { name: cookie.name.as_str().into(), secure: cookie.secure, seal, attributes })
    }
}

/// `192.0.2.0/24`; a whole address stands alone.
fn prefix(address: IpAddr, v4: u8, v6: u8) -> String {
    match address.to_canonical() {
        IpAddr::V4(ip) if v4 >= 32 => ip.to_string(),
        IpAddr::V6(ip) if v6 >= 128 => ip.to_string(),
        IpAddr::V4(ip) => format!("{}/{v4}", std::net::Ipv4Addr::from(u32::from(ip) & (u32::MAX << (32 - v4)))),
        IpAddr::V6(ip) => format!("{}/{v6}", std::net::Ipv6Addr::from(u128::from(ip) & (u128::MAX << (128 - v6)))),
    }
}

/// A key as the table has it, and as operators see it: itself where that is short and printable, else `#` and a digest,
/// as well as for what may be a credential: it is of no use to whoever reads the list.
pub(crate) fn key(bytes: &[u8], secret: bool) -> Arc<str> {
    let plain = bytes.len() <= MAX_KEY && !bytes.starts_with(b"#") && bytes.iter().all(u8::is_ascii_graphic);
    match str::from_utf8(bytes) {
        Ok(text) if plain && !secret => text.into(),
        _ => {
            let digest = digest(&SHA256, bytes);
            let mut text = String::from("#");
            for byte in &digest.as_ref()[..16] {
                let _ = write!(text, "{byte:02x}");
            }
            text.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn pool(states: &[BackendState]) -> api::Pool {
        let backend = |(i, state): (usize, &BackendState)| api::Backend {
            address: SocketAddr::from(([10, 0, 0, i as u8], 80)),
            weight: 1,
            state: *state,
            role: api::BackendRole::default(),
            server_name: None,
            drain_timeout: None,
        };
        api::Pool {
            name: "p".into(),
            backends: states.iter().enumerate().map(backend).collect(),
            persistence: Some(api::Persistence {
                by: PersistBy::Source { v4: 24, v6: 64 },
                timeout: Duration::from_secs(60),
                max_entries: 10,
                drain_timeout: Duration::from_secs(5),
            }),
            ..api::Pool::default()
        }
    }

    #[test]
    fn a_key_is_printable_short_and_no_credential() {
        assert_eq!(&*key(b"user-7", false), "user-7");
        let digest = key(b"user-7", true);
        assert!(digest.starts_with('#') && digest.len() == 33);
        assert_eq!(key(b"user-7", true), digest);
        for odd in [&b"a b"[..], b"#x", "\u{e4}".as_bytes(), &[b'x'; 129], b"\x1b[2J"] {
            assert!(key(odd, false).starts_with('#'), "{odd:?}");
        }
    }

    #[test]
    fn a_source_is_its_prefix() {
        let of = |text: &str| prefix(text.parse().unwrap(), 24, 64);
        assert_eq!(of("192.0.2.77"), "192.0.2.0/24");
        assert_eq!(of("::ffff:192.0.2.77"), "192.0.2.0/24");
        assert_eq!(of("2001:db8:1:2:3::4"), "2001:db8:1:2::/64");
        assert_eq!(prefix("192.0.2.77".parse().unwrap(), 32, 128), "192.0.2.77");
        assert_eq!(prefix("192.0.2.77".parse().unwrap(), 1, 1), "128.0.0.0/1");
    }

    #[test]
    fn a_table_is_kept_while_its_keys_mean_the_same_and_a_drain_has_one_begin() {
        use BackendState::*;
        let keys = TicketKeys::default();
        let first = Pinning::new(&pool(&[Up, Draining]), &keys, None).unwrap().unwrap();
        let now = clock::now();
        let address = |i| SocketAddr::from(([10, 0, 0, i], 80));
        assert!(first.keeps(address(0), Up, now) && !first.keeps(address(0), Down, now));
        assert!(first.keeps(address(1), Draining, now) && !first.keeps(address(1), Disabled, now));
        assert!(!first.keeps(address(1), Draining, now + 5_100));
        let second = Pinning::new(&pool(&[Up, Draining, Draining]), &keys, Some(&first)).unwrap().unwrap();
        assert_eq!(second.draining[&address(1)], first.draining[&address(1)]);
        assert!(Arc::ptr_eq(first.table.as_ref().unwrap(), second.table.as_ref().unwrap()));
        let mut other = pool(&[Up]);
        other.persistence.as_mut().unwrap().by = PersistBy::AppCookie("sid".into());
        let third = Pinning::new(&other, &keys, Some(&second)).unwrap().unwrap();
        assert!(!Arc::ptr_eq(second.table.as_ref().unwrap(), third.table.as_ref().unwrap()));
    }

    #[test]
    fn a_cookie_without_keys_is_refused() {
        let mut of = pool(&[]);
        let cookie = api::SessionCookie {
            name: "sid".into(),
            path: "/".into(),
            domain: None,
            same_site: SameSite::Lax,
            max_age: Some(Duration::from_secs(9)),
            http_only: true,
            secure: None,
            keys: Vec::new(),
        };
        of.persistence.as_mut().unwrap().by = PersistBy::Cookie(cookie);
        assert!(Pinning::new(&of, &TicketKeys::default(), None).is_err());
        let keys = TicketKeys { keys: vec![api::Secret::new(vec![1; 48])], lifetime_seconds: 60 };
        let made = Pinning::new(&of, &keys, None).unwrap().unwrap();
        let By::Cookie(cookie) = &made.by else { panic!() };
        assert_eq!(cookie.attributes, "; Path=/; Max-Age=9; SameSite=Lax; HttpOnly");
        assert!(made.table.is_none());
    }
}
