//! Slots that move: where packets go while a pool changes, and that operators are told the same.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use lb_tests::checksum::filled;
use lb_tests::packet::patched;
use lb_tests::privilege;
use lb_tests::random::Random;
use lb_user::datapath::probe::{LOOPBACK, Probe};
use lb_user::datapath::{
    Desired, DesiredForward, FlowReason, ForwardBackend, ForwardHash, ForwardMode, Ports, Protocol,
};
use libtest_mimic::{Failed, Trial};
use tls_worker::api::BackendState;

use super::services::*;

const ID: u32 = 1;
const FLOWS: u16 = 400;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("flows that began before stay, flows that begin go on", before_and_after),
        Trial::test("a drained backend keeps its flows and gets no new one", drained),
        Trial::test("a dead backend's flows go on elsewhere, and are counted", dead),
        Trial::test("what a service that is gone remembered is forgotten", gone),
        Trial::test("UDP flows that were known before stay", udp),
        Trial::test("a flow that begins again on the same ports is a new one", again),
        Trial::test("the kernel and the control plane choose the same backend", agree),
        Trial::test("a source keeps its backend where sources are hashed", sources),
        Trial::test("backends are counted: packets, bytes, flows", counted),
    ]
}

/// A probe with one service and these backends.
struct Pool {
    probe: Probe,
    forward: DesiredForward,
}

impl Pool {
    fn new(hash: ForwardHash, backends: &[u8]) -> Result<Self, Failed> {
        privilege::pin_to(privilege::cpus()[0])?;
        let forward = DesiredForward { hash, ..forward(ID, ForwardMode::Nat, Ports::Range(PORT, PORT), vec![]) };
        let probe = Probe::open(false, &[], &Desired::default())?;
        let mut pool = Self { probe, forward };
        pool.set(backends.iter().map(|last| up(backend4((*last).into()))).collect())?;
        Ok(pool)
    }

    fn set(&mut self, backends: Vec<ForwardBackend>) -> Result<(), Failed> {
        self.forward.backends = backends;
        self.probe.change(&Desired { forwards: vec![self.forward.clone()], ..Desired::default() })?;
        for backend in &self.forward.backends {
            self.probe.set_backend_hop(ID, backend.address, hop(LOOPBACK))?;
        }
        Ok(())
    }

    fn mark(&mut self, last: u8, state: BackendState) -> Result<(), Failed> {
        let mut backends = self.forward.backends.clone();
        let address = IpAddr::from(backend4(last.into()));
        for backend in backends.iter_mut().filter(|backend| backend.address.ip() == address) {
            backend.state = state;
        }
        self.set(backends)
    }

    /// Last octet of the backend that a packet goes to.
    fn to(&self, frame: Vec<u8>) -> Result<u8, Failed> {
        Ok(self.probe.run(&filled(frame))?.output[33])
    }

    fn syn(&self, port: u16) -> Result<u8, Failed> {
        self.to(segment(CLIENT, port, 0x02))
    }

    fn ack(&self, port: u16) -> Result<u8, Failed> {
        self.to(segment(CLIENT, port, 0x10))
    }

    fn all(&self, packet: impl Fn(&Self, u16) -> Result<u8, Failed>) -> Result<Vec<u8>, Failed> {
        (1..=FLOWS).map(|port| packet(self, port)).collect()
    }
}

const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

fn segment(client: Ipv4Addr, port: u16, flags: u8) -> Vec<u8> {
    let frame = between4(client, vip4(ID)).tcp(port, PORT, &[]).build();
    patched(frame, 47, &[flags])
}

fn datagram(port: u16) -> Vec<u8> {
    between4(CLIENT, vip4(ID)).udp(port, PORT).build()
}

fn before_and_after() -> Result<(), Failed> {
    let mut pool = Pool::new(ForwardHash::Flow, &[1, 2])?;
    let before = pool.all(Pool::syn)?;
    assert!([1, 2].iter().all(|backend| before.contains(backend)), "both backends have flows");
    pool.set([1, 2, 3].map(|last| up(backend4(last))).to_vec())?;
    assert_eq!(pool.all(Pool::ack)?, before, "flows that began before");
    // Others, that begin now.
    let begun: Vec<u8> = (1000..1000 + FLOWS).map(|port| pool.syn(port)).collect::<Result<_, _>>()?;
    assert!(begun.contains(&3), "the new backend gets flows");
    let goes: Vec<u8> = (1000..1000 + FLOWS).map(|port| pool.ack(port)).collect::<Result<_, _>>()?;
    assert_eq!(goes, begun, "flows that began during the change");
    // A change within the change.
    pool.set([1, 2, 3, 4].map(|last| up(backend4(last))).to_vec())?;
    assert_eq!(pool.all(Pool::ack)?, before);
    let goes: Vec<u8> = (1000..1000 + FLOWS).map(|port| pool.ack(port)).collect::<Result<_, _>>()?;
    assert_eq!(goes, begun);
    let state = &pool.probe.forwards()?[0];
    assert!(state.moved > 0 && state.remembered > 0 && state.dead == 0, "{state:?}");
    Ok(())
}

fn drained() -> Result<(), Failed> {
    let mut pool = Pool::new(ForwardHash::Flow, &[1, 2, 3])?;
    let before = pool.all(Pool::syn)?;
    pool.mark(2, BackendState::Draining)?;
    assert_eq!(pool.all(Pool::ack)?, before);
    let begun: Vec<u8> = (1000..1000 + FLOWS).map(|port| pool.syn(port)).collect::<Result<_, _>>()?;
    assert!(!begun.contains(&2));
    pool.mark(2, BackendState::Up)?;
    assert_eq!(pool.all(Pool::ack)?, before);
    Ok(())
}

fn dead() -> Result<(), Failed> {
    let mut pool = Pool::new(ForwardHash::Flow, &[1, 2, 3])?;
    let before = pool.all(Pool::syn)?;
    pool.mark(2, BackendState::Down)?;
    let after = pool.all(Pool::ack)?;
    for (before, after) in before.iter().zip(&after) {
        assert!(if *before == 2 { *after != 2 } else { before == after }, "from {before} to {after}");
    }
    let lost = before.iter().filter(|backend| **backend == 2).count() as u64;
    assert_eq!(pool.probe.forwards()?[0].dead, lost);
    Ok(())
}

fn gone() -> Result<(), Failed> {
    let mut pool = Pool::new(ForwardHash::Flow, &[1])?;
    pool.set([1, 2].map(|last| up(backend4(last))).to_vec())?;
    assert!(pool.all(Pool::syn)?.contains(&2));
    assert!(pool.probe.forwards()?[0].remembered > 0);
    pool.probe.change(&Desired::default())?;
    // The same service again, with other backends under the same numbers.
    pool.set(vec![up(backend4(3))])?;
    pool.set([3, 4].map(|last| up(backend4(last))).to_vec())?;
    assert!(pool.all(Pool::ack)?.iter().all(|backend| *backend == 3), "flows that nobody knows began before");
    Ok(())
}

fn udp() -> Result<(), Failed> {
    let mut pool = Pool::new(ForwardHash::Flow, &[1, 2])?;
    let to = |pool: &Pool, port| pool.to(datagram(port));
    let before = pool.all(to)?;
    pool.set([1, 2, 3].map(|last| up(backend4(last))).to_vec())?;
    assert_eq!(pool.all(to)?, before);
    pool.mark(1, BackendState::Disabled)?;
    let after = pool.all(to)?;
    assert!(before.iter().zip(&after).all(|(b, a)| if *b == 1 { *a != 1 } else { b == a }));
    // Wherever they went, there they stay.
    assert_eq!(pool.all(to)?, after);
    Ok(())
}

fn again() -> Result<(), Failed> {
    let mut pool = Pool::new(ForwardHash::Flow, &[1])?;
    pool.all(Pool::syn)?;
    pool.set([1, 2].map(|last| up(backend4(last))).to_vec())?;
    assert!(pool.all(Pool::ack)?.iter().all(|backend| *backend == 1));
    let begun = pool.all(Pool::syn)?;
    assert!(begun.contains(&2));
    assert_eq!(pool.all(Pool::ack)?, begun);
    Ok(())
}

fn agree() -> Result<(), Failed> {
    let mut random = Random::new(21);
    for hash in [ForwardHash::Flow, ForwardHash::Source, ForwardHash::SourceDestination] {
        let mut pool = Pool::new(hash, &[1, 2, 3, 4, 5])?;
        let vip = SocketAddr::from((vip4(ID), PORT));
        let mut ask = |pool: &Pool, reason| -> Result<(), Failed> {
            for _ in 0..500 {
                let (client, port) = (Ipv4Addr::from(0x0b00_0000 | random.next() as u32 >> 8), random.next() as u16);
                let answer = pool.probe.flow(Protocol::Tcp, (client, port).into(), vip).ok_or("no answer")?;
                let went = pool.to(segment(client, port, 0x02))?;
                let said = answer.backend.ok_or("no backend")?;
                assert_eq!(said.ip(), IpAddr::from(backend4(went.into())), "{client}:{port} by {hash:?}: {answer:?}");
                let known = [Some(reason), Some(FlowReason::Settled), Some(FlowReason::Remembered)];
                assert!(known.contains(&answer.reason), "{answer:?}");
            }
            Ok(())
        };
        ask(&pool, FlowReason::Settled)?;
        pool.set([1, 2, 3].map(|last| up(backend4(last))).to_vec())?;
        ask(&pool, FlowReason::Moved)?;
    }
    Ok(())
}

fn sources() -> Result<(), Failed> {
    let pool = Pool::new(ForwardHash::Source, &[1, 2, 3, 4])?;
    let mut backends = std::collections::BTreeSet::new();
    for client in 1..=64 {
        let client = Ipv4Addr::new(198, 51, 100, client);
        let to: Vec<u8> = (1..20).map(|port| pool.to(segment(client, port, 0x02))).collect::<Result<_, _>>()?;
        assert!(to.iter().all(|backend| *backend == to[0]), "{client}: {to:?}");
        backends.insert(to[0]);
    }
    assert_eq!(backends.len(), 4);
    Ok(())
}

fn counted() -> Result<(), Failed> {
    let pool = Pool::new(ForwardHash::Flow, &[1])?;
    pool.syn(1)?;
    pool.ack(1)?;
    pool.to(datagram(1))?;
    let bytes = [segment(CLIENT, 1, 2).len(), segment(CLIENT, 1, 2).len(), datagram(1).len()].iter().sum::<usize>();
    let state = &pool.probe.forwards()?[0];
    let backend = &state.backends[0];
    assert_eq!((backend.packets, backend.bytes, backend.flows), (3, bytes as u64, 1), "{state:?}");
    assert_eq!((backend.slots, state.slots), (251, 502), "{state:?}");
    Ok(())
}
