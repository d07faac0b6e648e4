//! `bailey decap`: on a backend's host, takes the outer header off packets that an edge sent by `ipip`.

use std::net::IpAddr;

pub use super::kernel::Decap;

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
