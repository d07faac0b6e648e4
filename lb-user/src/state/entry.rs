//! Lines of the journal: `CHECKSUM JSON`. Pure.
//!
//! The checksum (CRC-32, eight hexadecimal digits) begins with that of the line before, so that a line that is missing,
//! doubled or in another's place is found as one that was changed.

use crate::reconcile::{Delta, ServiceIds};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Version of the lines below. A journal of another version is not read.
pub const FORMAT: u32 = 1;

/// Digits of the checksum and the space after them.
const PREFIX: usize = 9;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub(super) enum Entry {
    /// The first. It reads alike in every version.
    Head {
        /// [`FORMAT`].
        format: u32,
        /// That wrote it.
        release: String,
    },
    /// The second: what was changed up to here, and is no part of the history any more.
    Base {
        /// Changes so far.
        number: u64,
        /// From no change at all.
        overlay: Delta,
    },
    /// A change.
    Change(Record),
    /// Numbers that stay given.
    Numbers {
        /// Ids of services.
        ids: ServiceIds,
        /// No generation up to this one is free.
        generation: u64,
    },
}

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// From 1.
    pub number: u64,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// By whom.
    pub who: Who,
    /// For people, a part of the change each.
    pub what: Vec<String>,
    /// Generation that it became.
    pub generation: u64,
    /// What it does to the overlay.
    pub delta: Delta,
}

/// Who asked for a change: what the kernel says of the other end of the socket.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Who {
    /// Name of the user; `bailey` for the daemon itself, `SIGHUP` for the signal.
    pub name: String,
    /// Of the process that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// User that the session was opened by, where that is another (`sudo`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
}

impl Who {
    /// Nobody at a socket.
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match (&self.login, self.pid) {
            (Some(login), Some(pid)) => write!(f, " (login {login}, pid {pid})"),
            (None, Some(pid)) => write!(f, " (pid {pid})"),
            _ => Ok(()),
        }
    }
}

impl Entry {
    /// The line, its end included, after the one with this checksum; and its own.
    pub(super) fn line(&self, before: u32) -> (Vec<u8>, u32) {
        let json = serde_json::to_vec(self).unwrap_or_default();
        let sum = checksum(before, &json);
        let mut line = format!("{sum:08x} ").into_bytes();
        line.extend_from_slice(&json);
        line.push(b'\n');
        (line, sum)
    }

    /// A line without its end, after the one with this checksum.
    pub(super) fn parse(line: &[u8], before: u32) -> Result<(Self, u32), Damage> {
        let (json, sum) = unwrap(line, before)?;
        let entry = serde_json::from_slice(json).map_err(|error| Damage::Unreadable(error.to_string()))?;
        Ok((entry, sum))
    }
}

/// The version that the first line tells, whatever else stands in it.
pub(super) fn format_of(line: &[u8]) -> Result<(u32, String), Damage> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
        #[serde(default)]
        release: String,
    }
    let (json, _) = unwrap(line, 0)?;
    let head: Head = serde_json::from_slice(json).map_err(|error| Damage::Unreadable(error.to_string()))?;
    Ok((head.format, head.release))
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Not as it was written, or not after the line that it was written after.
    #[error("its checksum is wrong")]
    Checksum,
    /// It has no end.
    #[error("it is half written")]
    Half,
    /// As it was written, and yet no entry.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// An entry, but not one that can stand here.
    #[error("it does not belong there")]
    Misplaced,
}

fn unwrap(line: &[u8], before: u32) -> Result<(&[u8], u32), Damage> {
    let (prefix, json) = line.split_at_checked(PREFIX).ok_or(Damage::Checksum)?;
    let sum = checksum(before, json);
    if prefix == format!("{sum:08x} ").as_bytes() { Ok((json, sum)) } else { Err(Damage::Checksum) }
}

fn checksum(before: u32, json: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&before.to_be_bytes());
    hasher.update(json);
    hasher.finalize()
}
