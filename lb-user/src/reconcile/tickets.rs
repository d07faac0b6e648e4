//! Keys of session tickets that nobody gave us: made at random, and turned over.
//!
//! Three stand: the current one encrypts, the previous one still decrypts what it gave out, the next one waits. A key
//! is current for one lifetime of a ticket and previous for another, so every ticket can be read for its whole life.
//! They are in memory alone: a worker that is started again gets them with the snapshot, a next control plane with the
//! note that workers keep for it. An edge that ended, and is started again, has new ones.

use super::note::seconds;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};
use tls_worker::api::Secret;
use tokio::time::Instant;

/// Bytes of a key.
const KEY: usize = 48;

/// Keys, and since when the current one is that.
#[derive(Debug)]
pub(super) struct RandomKeys {
    next: Secret,
    current: Secret,
    previous: Option<Secret>,
    since: Instant,
}

/// The same, for the next control plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptKeys {
    next: Secret,
    current: Secret,
    previous: Option<Secret>,
    /// Seconds since 1970.
    since: u64,
}

/// The system gives no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers for ticket keys")]
pub struct NoRandom;

impl RandomKeys {
    pub(super) fn new(now: Instant) -> Result<Self, NoRandom> {
        Ok(Self { next: key()?, current: key()?, previous: None, since: now })
    }

    /// Those of the control plane before. With a clock that was set back, the current one is new.
    pub(super) fn of(kept: &KeptKeys, now: SystemTime, instant: Instant) -> Self {
        let age = Duration::from_secs(seconds(now).saturating_sub(kept.since));
        let KeptKeys { next, current, previous, .. } = kept.clone();
        Self { next, current, previous, since: instant.checked_sub(age).unwrap_or(instant) }
    }

    /// For the next control plane.
    pub(super) fn kept(&self, now: SystemTime, instant: Instant) -> KeptKeys {
        let since = seconds(now).saturating_sub(instant.duration_since(self.since).as_secs());
        let (next, current, previous) = (self.next.clone(), self.current.clone(), self.previous.clone());
        KeptKeys { next, current, previous, since }
    }

    /// The one that encrypts first.
    pub(super) fn keys(&self) -> Vec<Secret> {
        [&self.current, &self.next].into_iter().chain(&self.previous).cloned().collect()
    }

    /// Turn over when the current one has had its time. Whether that was so.
    pub(super) fn turn(&mut self, lifetime: Duration, now: Instant) -> Result<bool, NoRandom> {
        if now.duration_since(self.since) < lifetime {
            return Ok(false);
        }
        let next = std::mem::replace(&mut self.next, key()?);
        self.previous = Some(std::mem::replace(&mut self.current, next));
        self.since = now;
        Ok(true)
    }
}

fn key() -> Result<Secret, NoRandom> {
    let mut bytes = vec![0; KEY];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(Secret::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_encrypts_for_one_lifetime_and_decrypts_for_another() {
        let (start, life) = (Instant::now(), Duration::from_secs(60));
        let mut keys = RandomKeys::new(start).unwrap();
        let [first, waiting] = keys.keys().try_into().unwrap();
        assert!(!keys.turn(life, start + Duration::from_secs(59)).unwrap());
        assert!(keys.turn(life, start + life).unwrap());
        let [current, next, previous] = keys.keys().try_into().unwrap();
        assert_eq!((&current, &previous), (&waiting, &first));
        assert!(next != current && next.expose().len() == KEY);
        assert!(!keys.turn(life, start + life).unwrap(), "once");
        assert!(keys.turn(life, start + 2 * life).unwrap());
        assert!(!keys.keys().contains(&first));
    }
}
