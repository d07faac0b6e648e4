//! What `edge` tells live: dropped packets go to whoever watches, wanted neighbours to whoever asks for them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray, RingBuf};
use lb_common::Verdict;
use lb_common::abi::{self, Address, EVENT_DROP, EVENT_NEIGHBOUR, EVENT_ROW_LOST, Event};
use tokio::io::unix::AsyncFd;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use zerocopy::FromBytes as _;

use super::bpf;
use super::error::failed;
use super::maps::take;
use crate::datapath::{DatapathError, PacketEvent};

/// Events that a slow watcher may be behind; older ones are lost to it, and it is told so.
const BACKLOG: usize = 4096;
/// Events read before other tasks have their turn.
const TURN: usize = 256;

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
    pub(super) fn start(ebpf: &mut Ebpf, neighbours: mpsc::Sender<WantedNeighbour>) -> Result<Self, DatapathError> {
        let ring: RingBuf<MapData> = take(ebpf, abi::EVENTS)?;
        let limits: PerCpuArray<MapData, u64> = take(ebpf, abi::EVENT_LIMITS)?;
        let ring = bpf::readable(ring).map_err(|e| failed("wait for the map EVENTS", &e))?;
        let packets = broadcast::Sender::new(BACKLOG);
        let lost = Arc::new(AtomicU64::new(0));
        let reader = Reader { packets: packets.clone(), neighbours, clock: Clock::read() };
        let reader = tokio::spawn(read(ring, reader, limits, Arc::clone(&lost)));
        Ok(Self { packets, lost, reader: Some(reader) })
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

async fn read(
    mut ring: AsyncFd<RingBuf<MapData>>,
    reader: Reader,
    limits: PerCpuArray<MapData, u64>,
    lost: Arc<AtomicU64>,
) {
    loop {
        let mut ready = match ring.readable_mut().await {
            Ok(ready) => ready,
            Err(e) => return ended(&e),
        };
        let mut read = 0;
        while read < TURN
            && let Some(bytes) = ready.get_inner_mut().next()
        {
            reader.deliver(&bytes);
            read += 1;
        }
        if read < TURN {
            ready.clear_ready();
        } else {
            tokio::task::yield_now().await;
        }
        if let Ok(cpus) = limits.get(&EVENT_ROW_LOST, 0) {
            lost.store(cpus.iter().sum(), Ordering::Relaxed);
        }
    }
}

fn ended(error: &io::Error) {
    tracing::error!(%error, "events of the kernel half can no longer be read");
}

/// What becomes of an event.
struct Reader {
    packets: broadcast::Sender<PacketEvent>,
    neighbours: mpsc::Sender<WantedNeighbour>,
    clock: Clock,
}

impl Reader {
    /// Bytes that are no event, of a kind or verdict that is not known, are skipped.
    fn deliver(&self, bytes: &[u8]) {
        let Ok(event) = Event::read_from_bytes(bytes) else { return };
        match event.kind {
            EVENT_DROP if self.packets.receiver_count() != 0 => {
                if let Some(packet) = packet(&event, self.clock) {
                    // Whoever watched has just gone.
                    let _ = self.packets.send(packet);
                }
            }
            EVENT_NEIGHBOUR => {
                let wanted = WantedNeighbour { interface: event.interface, address: ip(event.destination) };
                // The next packet asks again.
                let _ = self.neighbours.try_send(wanted);
            }
            _ => {}
        }
    }
}

/// When the kernel's clock began.
#[derive(Debug, Clone, Copy)]
struct Clock(SystemTime);

impl Clock {
    fn read() -> Self {
        let since = Duration::from_nanos(super::monotonic());
        Self(SystemTime::now().checked_sub(since).unwrap_or(SystemTime::UNIX_EPOCH))
    }

    fn at(self, nanoseconds: u64) -> SystemTime {
        self.0.checked_add(Duration::from_nanos(nanoseconds)).unwrap_or(self.0)
    }
}

fn packet(event: &Event, clock: Clock) -> Option<PacketEvent> {
    let verdict = Verdict::ALL.get(event.verdict as usize)?;
    Some(PacketEvent {
        time: clock.at(event.time),
        service: event.service,
        verdict: verdict.name(),
        source: SocketAddr::new(ip(event.source), event.source_port.get()),
        destination: SocketAddr::new(ip(event.destination), event.destination_port.get()),
        protocol: u8::try_from(event.protocol).unwrap_or(0),
        bytes: event.bytes,
        interface: event.interface,
    })
}

fn ip(address: Address) -> IpAddr {
    IpAddr::from(address.0).to_canonical()
}

#[cfg(test)]
mod tests {
    use lb_common::abi::{Be16, EVENT_DROP};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use zerocopy::IntoBytes as _;

    use super::*;

    fn reader() -> (Reader, broadcast::Receiver<PacketEvent>, mpsc::Receiver<WantedNeighbour>) {
        let (packets, watching) = broadcast::channel(8);
        let (neighbours, wanted) = mpsc::channel(1);
        (Reader { packets, neighbours, clock: Clock(SystemTime::UNIX_EPOCH) }, watching, wanted)
    }

    fn event(kind: u32) -> Event {
        Event {
            time: 5_000_000_000,
            kind,
            verdict: Verdict::Denied as u32,
            service: 2,
            interface: 7,
            source: Address::v4([192, 0, 2, 1]),
            destination: Address::v4([203, 0, 113, 9]),
            source_port: Be16::new(999),
            destination_port: Be16::new(443),
            protocol: 6,
            bytes: 54,
            pad: 0,
        }
    }

    #[test]
    fn a_dropped_packet_is_told_in_words() {
        let (reader, mut watching, _wanted) = reader();
        reader.deliver(event(EVENT_DROP).as_bytes());
        let told = watching.try_recv().unwrap();
        assert_eq!((told.verdict, told.service, told.bytes, told.interface), ("denied", 2, 54, 7));
        assert_eq!(told.source.to_string(), "192.0.2.1:999");
        assert_eq!(told.destination.to_string(), "203.0.113.9:443");
        assert_eq!(told.time, SystemTime::UNIX_EPOCH + Duration::from_secs(5));
    }

    #[test]
    fn a_neighbour_is_asked_for_once_there_is_room() {
        let (reader, _watching, mut wanted) = reader();
        reader.deliver(event(EVENT_NEIGHBOUR).as_bytes());
        reader.deliver(event(EVENT_NEIGHBOUR).as_bytes());
        let expected = WantedNeighbour { interface: 7, address: "203.0.113.9".parse().unwrap() };
        assert_eq!(wanted.try_recv(), Ok(expected));
        assert!(wanted.try_recv().is_err());
    }

    #[test]
    fn an_unknown_verdict_is_skipped() {
        let (reader, mut watching, _wanted) = reader();
        reader.deliver(Event { verdict: Verdict::COUNT, ..event(EVENT_DROP) }.as_bytes());
        assert!(watching.try_recv().is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in vec(any::<u8>(), 0..100), kind in 0u32..4) {
            let (reader, _watching, _wanted) = reader();
            reader.deliver(&bytes);
            let mut whole = bytes;
            whole.resize(size_of::<Event>(), 0x5a);
            whole[8..12].copy_from_slice(&kind.to_ne_bytes());
            reader.deliver(&whole);
        }
    }
}
