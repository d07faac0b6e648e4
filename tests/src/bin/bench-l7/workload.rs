//! The workloads: what is asked, how much of it, and what Bailey is to reach.

use std::sync::Arc;

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::edge::Edge;
use crate::lab::Lab;
use crate::load::client::Client;
use crate::load::{h2load, wrk};
use crate::origin::{LARGE, SMALL};

/// Connections that stay open in [`Workload::Idle`].
pub(crate) const IDLE_CONNECTIONS: u64 = 1000;
/// Connections and streams of [`Workload::H2`].
const H2_SHAPE: (u32, u32) = (8, 10);
/// Full handshakes in flight: the edge always has the next one to do.
const HANDSHAKES_AT_ONCE: u64 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// HTTPS/1.1, 16 kept-alive connections, 1 KiB
    H1,
    /// HTTPS/2, 8 connections with 10 streams each, 1 KiB
    H2,
    /// HTTPS/1.1, 8 kept-alive connections, 1 MiB
    Large,
    /// Full TLS 1.3 handshake with P-256 and one request
    HandshakeP256,
    /// Full TLS 1.3 handshake with RSA-2048 and one request
    HandshakeRsa,
    /// Resident memory of 1,000 idle TLS connections after one request each
    Idle,
}

/// How long a round is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    Full,
    Quick,
    WarmUp,
}

impl Workload {
    pub(crate) const ALL: [Self; 6] =
        [Self::H1, Self::H2, Self::Large, Self::HandshakeP256, Self::HandshakeRsa, Self::Idle];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::H1 => "HTTPS/1.1 keep-alive 1 KiB",
            Self::H2 => "HTTPS/2 8 x 10 streams 1 KiB",
            Self::Large => "HTTPS/1.1 keep-alive 1 MiB",
            Self::HandshakeP256 => "full handshake P-256, 1 KiB",
            Self::HandshakeRsa => "full handshake RSA-2048, 1 KiB",
            Self::Idle => "idle TLS connection",
        }
    }

    /// Of the figures: CPU time a request, or resident memory a connection.
    pub(crate) fn unit(self) -> &'static str {
        if self == Self::Idle { "KiB" } else { "us" }
    }

    /// Ratio to the best peer that is asked of Bailey.
    pub(crate) fn budget(self) -> f64 {
        match self {
            Self::H1 | Self::H2 | Self::Large => 0.8,
            Self::HandshakeP256 => 0.6,
            Self::HandshakeRsa => 0.7,
            Self::Idle => 1.0,
        }
    }

    /// Loads an edge; how many requests it answered, each of them well.
    pub(crate) fn load(self, context: &Context<'_>, edge: &Edge, effort: Effort) -> Result<u64> {
        let lab = context.lab;
        let seconds = if effort == Effort::Full { 3 } else { 1 };
        match self {
            Self::H1 => wrk::run(lab, edge.addresses.p256, SMALL.0, 16, seconds),
            Self::H2 => {
                let requests = effort.pick(60_000, 10_000);
                Ok(h2load::run(edge.addresses.p256, SMALL.0, H2_SHAPE, requests)?.requests)
            }
            Self::Large => wrk::run(lab, edge.addresses.p256, LARGE.0, 8, seconds),
            Self::HandshakeP256 => context.handshakes(edge.addresses.p256, effort.pick(3_000, 500)),
            Self::HandshakeRsa => context.handshakes(edge.addresses.rsa, effort.pick(2_000, 300)),
            // The rounds of memory load by themselves.
            Self::Idle => context.handshakes(edge.addresses.p256, 50),
        }
    }
}

impl Effort {
    fn pick(self, full: u64, less: u64) -> u64 {
        if self == Self::Full { full } else { less }
    }
}

/// What loads share.
pub(crate) struct Context<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) client: Arc<Client>,
    pub(crate) runtime: Runtime,
}

impl<'a> Context<'a> {
    pub(crate) fn new(lab: &'a Lab) -> Result<Self> {
        let client = Arc::new(Client::new(&lab.pki.roots)?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { lab, client, runtime })
    }

    fn handshakes(&self, to: std::net::SocketAddr, count: u64) -> Result<u64> {
        self.runtime.block_on(self.client.connections(to, SMALL, count, HANDSHAKES_AT_ONCE))
    }
}
