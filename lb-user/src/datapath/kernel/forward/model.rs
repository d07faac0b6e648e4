//! Changes of a pool, flows and their packets, time, and lost memory, played at random against what the kernel does with
//! slots: no flow of a living backend ever changes its backend.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use lb_common::abi::{Address, Be16, FlowKey, FlowValue, PROTO_TCP, PROTO_UDP, ring};
use lb_common::select::{self, Backend, Memory, NONE, Opening};
use proptest::prelude::*;
use tls_worker::api::BackendState;

use super::state::{Nanos, Phase, State};
use super::sweep::sweep;
use crate::datapath::{DesiredForward, ForwardBackend, ForwardHash, ForwardMode, Ports, Protocol, ServiceAddress};

const ID: u32 = 3;
const SLOTS: u32 = 31;
const DRAIN: Duration = Duration::from_secs(60);
const UDP_IDLE: Duration = Duration::from_secs(20);
/// A flow that lives sends a packet within this.
const SPEAKS: Duration = Duration::from_secs(6);
const MAX_BACKENDS: u32 = 64;

#[derive(Debug, Clone)]
enum Step {
    Open {
        udp: bool,
        hash: u32,
    },
    Speak(prop::sample::Index),
    End(prop::sample::Index),
    Pool {
        backend: u8,
        state: Option<BackendState>,
        weight: u16,
    },
    Wait(Duration),
    Tick,
    /// The kernel gives the place of a remembered flow to another.
    Forget(prop::sample::Index),
}

struct Flow {
    key: FlowKey,
    hash: u32,
    udp: bool,
    backend: Backend,
    spoke: Nanos,
}

#[derive(Default)]
struct World {
    now: Nanos,
    pool: BTreeMap<u8, ForwardBackend>,
    state: State,
    memory: BTreeMap<FlowKey, FlowValue>,
    flows: Vec<Flow>,
    opened: u32,
    /// Flows whose memory was lost: nobody promises anything about them.
    lost: BTreeSet<FlowKey>,
}

impl World {
    fn desired(&self) -> DesiredForward {
        DesiredForward {
            id: ID,
            name: "model".to_owned(),
            addresses: vec![ServiceAddress { address: [10, 0, 0, 1].into(), ports: Ports::Range(1, 1) }],
            protocols: vec![Protocol::Tcp, Protocol::Udp],
            mode: ForwardMode::L2,
            hash: ForwardHash::Flow,
            slots: SLOTS,
            drain: DRAIN,
            udp_idle: UDP_IDLE,
            outer_mtu: None,
            backends: self.pool.values().copied().collect(),
        }
    }

    fn apply(&mut self) {
        self.state = self.state.next(&[self.desired()], MAX_BACKENDS, self.now).expect("numbers enough");
    }

    fn alive(&self, number: Backend) -> bool {
        self.state.backends().get(&number).is_some_and(|b| b.flags & lb_common::abi::BACKEND_ALIVE != 0)
    }

    /// What `edge` does with a packet. Gives the backend.
    fn packet(&mut self, key: FlowKey, hash: u32, udp: bool, opening: Opening) -> Backend {
        let index = select::slot_of(hash, SLOTS);
        let service = &self.state.services[&ID];
        let slot = service.rings[0][index as usize];
        if slot.is_settled() {
            return slot.current;
        }
        let value = service.value();
        let opening = match opening {
            Opening::Unsaid if self.now >= value.udp_new_after => Opening::UnsaidButNew,
            opening => opening,
        };
        let known = self.memory.get(&key).filter(|known| !udp || known.seen + value.udp_idle > self.now);
        let choice = select::unsettled(slot, known.map(|k| k.backend as Backend), opening, |n| self.alive(n));
        let value =
            FlowValue { seen: self.now, backend: choice.backend.into(), ring: ring(ID, false), slot: index, pad: 0 };
        match choice.memory {
            Memory::Leave => {}
            Memory::Refresh | Memory::Remember => drop(self.memory.insert(key, value)),
            Memory::Forget => drop(self.memory.remove(&key)),
        }
        choice.backend
    }

    /// A packet of a flow that is open: it must go where the flow is, if that lives.
    fn speak(&mut self, at: usize) {
        let Flow { key, hash, udp, backend, .. } = self.flows[at];
        let opening = if udp { Opening::Unsaid } else { Opening::Goes };
        let to = self.packet(key, hash, udp, opening);
        if !self.lost.contains(&key) && backend != NONE && self.alive(backend) {
            assert_eq!(to, backend, "flow {at} of a living backend was moved");
        }
        self.flows[at].backend = to;
        self.flows[at].spoke = self.now;
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Open { udp, hash } => self.open(udp, hash),
            Step::Speak(at) if !self.flows.is_empty() => self.speak(at.index(self.flows.len())),
            Step::End(at) if !self.flows.is_empty() => {
                self.flows.swap_remove(at.index(self.flows.len()));
            }
            Step::Pool { backend, state, weight } => {
                match state {
                    None => drop(self.pool.remove(&backend)),
                    Some(state) => {
                        let address = SocketAddr::from(([10, 1, 0, backend], 80));
                        self.pool.insert(backend, ForwardBackend { address, weight, state });
                    }
                }
                self.apply();
                // Whoever hears no answer ends the flow: it is on a backend that is gone.
                let dead: Vec<bool> = self.flows.iter().map(|flow| !self.alive(flow.backend)).collect();
                let mut dead = dead.into_iter();
                self.flows.retain(|_| !dead.next().unwrap_or(false));
            }
            Step::Wait(time) => {
                self.now += time.as_nanos() as u64;
                for at in 0..self.flows.len() {
                    if self.flows[at].spoke + SPEAKS.as_nanos() as u64 <= self.now {
                        self.speak(at);
                    }
                }
            }
            Step::Tick => self.tick(),
            Step::Forget(at) if !self.memory.is_empty() => {
                let key = *self.memory.keys().nth(at.index(self.memory.len())).expect("an entry");
                self.memory.remove(&key);
                self.lost.insert(key);
            }
            Step::Speak(_) | Step::End(_) | Step::Forget(_) => {}
        }
    }

    fn open(&mut self, udp: bool, hash: u32) {
        self.opened += 1;
        let [_, client @ ..] = self.opened.to_be_bytes();
        let key = FlowKey {
            source: Address::v4([11, client[0], client[1], client[2]]),
            destination: Address::v4([10, 0, 0, 1]),
            source_port: Be16::new(999),
            destination_port: Be16::new(1),
            protocol: u32::from(if udp { PROTO_UDP } else { PROTO_TCP }),
        };
        let backend = self.packet(key, hash, udp, if udp { Opening::Unsaid } else { Opening::Begins });
        if backend == NONE {
            return;
        }
        assert!(udp || self.takes(backend), "a new flow went to {backend}, which takes none");
        self.flows.push(Flow { key, hash, udp, backend, spoke: self.now });
    }

    fn takes(&self, number: Backend) -> bool {
        let address = self.state.services[&ID].backend(number);
        self.pool.values().any(|b| Some(b.address) == address && b.state == BackendState::Up)
    }

    fn tick(&mut self) {
        let entries: Vec<_> = self.memory.iter().map(|(key, value)| (*key, *value)).collect();
        let service = self.state.services[&ID].clone();
        let seen = sweep(&entries, ID, &service, self.now);
        if service.phase == Phase::Watching {
            self.memory.retain(|key, _| !seen.delete.contains(key));
        }
        self.state = self.state.ripened(self.now, |_| Some(seen.remembered.clone()));
    }
}

fn steps() -> impl Strategy<Value = Step> {
    let state = prop_oneof![
        4 => Just(Some(BackendState::Up)),
        2 => Just(Some(BackendState::Draining)),
        1 => Just(Some(BackendState::Down)),
        1 => Just(None),
    ];
    prop_oneof![
        6 => (any::<bool>(), any::<u32>()).prop_map(|(udp, hash)| Step::Open { udp, hash }),
        6 => any::<prop::sample::Index>().prop_map(Step::Speak),
        2 => any::<prop::sample::Index>().prop_map(Step::End),
        3 => (0u8..6, state, 1u16..4).prop_map(|(backend, state, weight)| Step::Pool { backend, state, weight }),
        4 => (1u64..6000).prop_map(|ms| Step::Wait(Duration::from_millis(ms))),
        3 => Just(Step::Tick),
        1 => any::<prop::sample::Index>().prop_map(Step::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_flow_of_a_living_backend_changes_its_backend(steps in prop::collection::vec(steps(), 1..300)) {
        let mut world = World::default();
        for backend in 0..4 {
            world.step(Step::Pool { backend, state: Some(BackendState::Up), weight: 1 });
        }
        for step in steps {
            world.step(step);
        }
    }

    #[test]
    fn without_flows_every_slot_settles(steps in prop::collection::vec(steps(), 1..60)) {
        let mut world = World::default();
        world.apply();
        for step in steps {
            world.step(step);
        }
        world.flows.clear();
        for _ in 0..4 {
            world.step(Step::Wait(DRAIN));
            world.step(Step::Tick);
        }
        let service = &world.state.services[&ID];
        prop_assert_eq!(service.phase, Phase::Settled);
        prop_assert_eq!(service.unsettled(), (0, 0));
        prop_assert!(world.memory.is_empty());
    }
}
