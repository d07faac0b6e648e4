//! One request's, or one connection's, place with a backend.

use super::table::Limits;
use super::{By, Opened, Pinning};
use crate::clock;
use crate::stats::{SessionLookup, SessionStats};
use crate::upstream::{PinsView, PoolView};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// See the module. Without persistence it has no opinion.
#[derive(Default)]
pub(crate) struct Pin(Option<Known>);

/// A client of a pool that has persistence.
struct Known {
    pinning: Arc<Pinning>,
    stats: Arc<SessionStats>,
    key: Option<Arc<str>>,
    /// Where it went before.
    had: Option<SocketAddr>,
    /// Where it goes.
    chosen: Option<SocketAddr>,
    /// Its cookie is good, but getting old.
    renew: bool,
}

impl Known {
    fn new(pins: &PinsView, key: Option<Arc<str>>, had: Option<SocketAddr>, renew: bool) -> Self {
        Known { pinning: pins.pinning.clone(), stats: pins.stats.clone(), key, had, chosen: None, renew }
    }
}

impl Pin {
    /// Of a client that is known by a key of the table; None: it has none.
    pub(crate) fn by_key(pool: &PoolView, key: Option<Arc<str>>) -> Self {
        let Some(pins) = &pool.pins else { return Pin::default() };
        let (pinning, stats) = (&pins.pinning, &pins.stats);
        let had = match (&key, &pinning.table) {
            (Some(key), Some(table)) => table.find(key, clock::now(), pinning.timeout),
            _ => {
                stats.lookups.inc(SessionLookup::None);
                // Its answer may bring one.
                let learns = matches!(pinning.by, By::AppCookie(_));
                return if learns { Pin(Some(Known::new(pins, None, None, false))) } else { Pin::default() };
            }
        };
        Self::known(pins, key, had, false)
    }

    /// Of a client by what its cookies say, those of the edge's own name.
    pub(crate) fn by_cookie<'a>(pool: &PoolView, values: impl Iterator<Item = &'a [u8]>) -> Self {
        let Some(pins) = &pool.pins else { return Pin::default() };
        let By::Cookie(cookie) = &pins.pinning.by else { return Pin::default() };
        let timeout = pins.pinning.timeout / 1_000;
        let mut good: Option<Opened> = None;
        for value in values {
            match cookie.seal.open(value, now()) {
                Some(opened) => good = good.or(Some(opened).filter(|opened| opened.age <= timeout)),
                None => pins.stats.lookups.inc(SessionLookup::BadCookie),
            }
        }
        let renew = good.is_some_and(|opened| !opened.current || opened.age > timeout / 2);
        Self::known(pins, None, good.map(|opened| opened.backend), renew)
    }

    /// Of a connection without HTTP.
    pub(crate) fn by_source(pool: &PoolView, address: IpAddr) -> Self {
        let key = pool.pins.as_ref().and_then(|pins| pins.pinning.source(address));
        Self::by_key(pool, key)
    }

    fn known(pins: &PinsView, key: Option<Arc<str>>, had: Option<SocketAddr>, renew: bool) -> Self {
        pins.stats.lookups.inc(if had.is_some() { SessionLookup::Hit } else { SessionLookup::Miss });
        Pin(Some(Known::new(pins, key, had, renew)))
    }

    /// Whether the client is one to be known again.
    pub(crate) fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// The backend to go to, if it keeps its clients and was not tried.
    pub(crate) fn wants(&self, pool: &PoolView, tried: &[SocketAddr]) -> Option<SocketAddr> {
        let known = self.0.as_ref()?;
        let at = known.chosen.or(known.had)?;
        (pool.keeps(at).is_some() && !tried.contains(&at)).then_some(at)
    }

    /// It goes to this one. Some: another thread sent its client there first, and there it is to go.
    pub(crate) fn took(&mut self, pool: &PoolView, address: SocketAddr, tried: &[SocketAddr]) -> Option<SocketAddr> {
        let known = self.0.as_mut()?;
        let at = known.chosen.or(known.had);
        known.chosen = Some(address);
        if at == Some(address) {
            return None;
        }
        if at.is_some() {
            known.stats.lookups.inc(SessionLookup::Moved);
        }
        let (Some(key), Some(table)) = (&known.key, &known.pinning.table) else { return None };
        let limits = Limits { timeout: known.pinning.timeout, max: known.pinning.max_entries };
        match table.pin(key, address, at, clock::now(), limits) {
            None => known.stats.lookups.inc(SessionLookup::Full),
            // Another thread was first.
            Some(first) if first != address && pool.keeps(first).is_some() && !tried.contains(&first) => {
                known.chosen = Some(first);
                return Some(first);
            }
            Some(_) => {}
        }
        None
    }

    /// What `Set-Cookie` has to say, when the answer is there; `secure`: whether the client's connection is.
    pub(crate) fn set_cookie(&self, secure: bool) -> Option<String> {
        let known = self.0.as_ref()?;
        let By::Cookie(cookie) = &known.pinning.by else { return None };
        let backend = known.chosen?;
        if known.had == Some(backend) && !known.renew {
            return None;
        }
        let value = cookie.seal.seal(backend, now())?;
        let secure = if cookie.secure.unwrap_or(secure) { "; Secure" } else { "" };
        Some(format!("{}={value}{}{secure}", cookie.name, cookie.attributes))
    }

    /// The application gave its client this cookie.
    pub(crate) fn learn(&self, value: &[u8]) {
        let Some(Known { pinning, chosen: Some(backend), stats, .. }) = &self.0 else { return };
        if let Some(table) = &pinning.table {
            let key = super::key(value, true);
            let limits = Limits { timeout: pinning.timeout, max: pinning.max_entries };
            let before = table.find(&key, clock::now(), pinning.timeout).filter(|before| before != backend);
            if table.pin(&key, *backend, before, clock::now(), limits).is_none() {
                stats.lookups.inc(SessionLookup::Full);
            }
        }
    }

    /// Name of the cookie that the application sets, where clients are known by it.
    pub(crate) fn app_cookie(&self) -> Option<&str> {
        match &self.0.as_ref()?.pinning.by {
            By::AppCookie(name) => Some(name),
            _ => None,
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs())
}
