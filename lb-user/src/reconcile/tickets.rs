//! Keys of session tickets that nobody gave us: made at random, and turned over.
//!
//! Three stand: the current one encrypts, the previous one still decrypts what it gave out, the next one waits. A key
//! is current for one lifetime of a ticket and previous for another, so every ticket can be read for its whole life.
//! They are in memory alone: a worker that is started again gets them with the snapshot, an edge that is started again
//! has new ones.

use ring::rand::{SecureRandom as _, SystemRandom};
use std::time::Duration;
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

/// The system gives no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers for ticket keys")]
pub struct NoRandom;

impl RandomKeys {
    pub(super) fn new(now: Instant) -> Result<Self, NoRandom> {
        Ok(Self { next: key()?, current: key()?, previous: None, since: now })
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
