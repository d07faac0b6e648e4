//! `bailey decap`: on a backend's host, takes the outer header off packets that an edge sent by `ipip`.

use std::net::IpAddr;

use super::DatapathError;

/// What is decapsulated, and where.
#[derive(Debug, Clone)]
pub struct DecapOptions {
    /// Interface that outer packets come in by.
    pub interface: String,
    /// Inner destinations; made local to this host while it runs.
    pub addresses: Vec<IpAddr>,
    /// Attach in the driver where it can; false: always in the stack.
    pub native: bool,
}

/// What came of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecapCounters {
    /// Outer headers taken off.
    pub taken_off: u64,
    /// Packets with an outer header and another inner destination; left alone.
    pub other: u64,
    /// Malformed within the outer header; dropped.
    pub malformed: u64,
}

/// A running program; dropping it detaches it.
pub struct Decap {}

impl Decap {
    /// Load, attach, make the addresses local.
    pub async fn open(_options: DecapOptions) -> Result<Self, DatapathError> {
        Ok(Self {})
    }

    /// Since it was opened.
    pub fn counters(&self) -> Result<DecapCounters, DatapathError> {
        Ok(DecapCounters::default())
    }

    /// Take everything out of the kernel again.
    pub async fn close(self) -> Result<(), DatapathError> {
        Ok(())
    }
}
