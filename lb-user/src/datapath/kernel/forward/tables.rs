//! The maps of forwarding, and the writes that lead from one state to another. Whole rings are made aside and put in place
//! by one update each.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use aya::Ebpf;
use aya::maps::{Array, ArrayOfMaps, HashMap, MapData, PerCpuArray, PerCpuValues};
use lb_common::abi::{
    self, BackendCounter, BackendValue, FlowCounter, FlowKey, FlowValue, ForwardValue, ReverseValue, ServiceKey,
};
use lb_common::select::{Backend, Slot};
use zerocopy::{FromBytes as _, transmute};

use super::state::State;
use crate::datapath::DatapathError;
use crate::datapath::kernel::error::failed;
use crate::datapath::kernel::{bpf, maps};

// aya takes plain bytes as keys and values without a promise in unsafe code.
type ForwardBytes = [u8; size_of::<ForwardValue>()];
type BackendBytes = [u8; size_of::<BackendValue>()];
type FlowKeyBytes = [u8; size_of::<FlowKey>()];
type FlowBytes = [u8; size_of::<FlowValue>()];
type ReverseKeyBytes = [u8; size_of::<ServiceKey>()];
type ReverseBytes = [u8; size_of::<ReverseValue>()];
type BackendCounterBytes = [u8; size_of::<BackendCounter>()];
type FlowCounterBytes = [u8; size_of::<FlowCounter>()];

/// Replies of `nat` backends by where they come from.
pub(super) type Reverse = BTreeMap<ServiceKey, ReverseValue>;

/// Content of all maps.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pub(super) state: State,
    pub(super) reverse: Reverse,
}

/// Handles of the maps.
pub(super) struct Tables {
    forward: Array<MapData, ForwardBytes>,
    pub(super) rings: ArrayOfMaps<MapData>,
    pub(super) rings_fd: OwnedFd,
    /// Where rings are pinned, so that the edge after this one can read them; none: nowhere.
    pub(super) pins: Option<PathBuf>,
    backends: Array<MapData, BackendBytes>,
    flows: HashMap<MapData, FlowKeyBytes, FlowBytes>,
    flows_data: OwnedFd,
    reverse: HashMap<MapData, ReverseKeyBytes, ReverseBytes>,
    backend_counters: PerCpuArray<MapData, BackendCounterBytes>,
    flow_counters: PerCpuArray<MapData, FlowCounterBytes>,
    cpus: usize,
}

impl Tables {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        let cpus = aya::util::nr_cpus().map_err(|(path, e)| failed(format!("read {path}"), &e))?;
        let flows_data = maps::descriptor(ebpf, abi::FLOWS)?;
        let rings_fd = maps::descriptor(ebpf, abi::RINGS)?;
        Ok(Self {
            forward: maps::take(ebpf, abi::FORWARD)?,
            rings: maps::take(ebpf, abi::RINGS)?,
            rings_fd,
            pins: None,
            backends: maps::take(ebpf, abi::BACKENDS)?,
            flows: maps::take(ebpf, abi::FLOWS)?,
            flows_data,
            reverse: maps::take(ebpf, abi::REVERSE)?,
            backend_counters: maps::take(ebpf, abi::BACKEND_COUNTERS)?,
            flow_counters: maps::take(ebpf, abi::FLOW_COUNTERS)?,
            cpus,
        })
    }

    /// Write what `to` has and `from` has not, in an order in which a packet meets the old state of its service or the
    /// new one: backends, then what names them.
    pub(super) fn lead(&mut self, from: &Content, to: &Content) -> Result<(), DatapathError> {
        let (old, new) = (from.state.backends(), to.state.backends());
        for (number, value) in &new {
            if old.get(number) != Some(value) {
                self.backend(*number, *value, !old.contains_key(number))?;
            }
        }
        for (key, value) in to.reverse.iter().filter(|(key, value)| from.reverse.get(key) != Some(value)) {
            let (key, value): (ReverseKeyBytes, ReverseBytes) = (transmute!(*key), transmute!(*value));
            self.reverse.insert(key, value, 0).map_err(|e| failed("write REVERSE", &e))?;
        }
        for (id, service) in &to.state.services {
            let before = from.state.services.get(id);
            let value = service.value();
            if before.is_none_or(|before| before.value() != value) {
                let value: ForwardBytes = transmute!(value);
                self.forward.set(*id, value, 0).map_err(|e| failed("write FORWARD", &e))?;
            }
            for (v6, ring) in [false, true].into_iter().zip(&service.rings) {
                if before.is_none_or(|before| before.rings[usize::from(v6)] != *ring) {
                    self.ring(abi::ring(*id, v6), ring)?;
                }
            }
        }
        Ok(())
    }

    /// Take away what only `from` has, when nothing leads there any more.
    pub(super) fn retire(&mut self, from: &Content, to: &Content) -> Result<(), DatapathError> {
        for key in from.reverse.keys().filter(|key| !to.reverse.contains_key(key)) {
            let key: ReverseKeyBytes = transmute!(*key);
            maps::gone(self.reverse.remove(&key)).map_err(|e| failed("write REVERSE", &e))?;
        }
        for id in from.state.services.keys().filter(|id| !to.state.services.contains_key(id)) {
            for v6 in [false, true] {
                self.ring(abi::ring(*id, v6), &[])?;
                self.unpin(abi::ring(*id, v6));
            }
        }
        Ok(())
    }

    fn backend(&mut self, number: Backend, value: BackendValue, new: bool) -> Result<(), DatapathError> {
        let number = u32::from(number);
        if new {
            let zero = vec![[0; size_of::<BackendCounter>()]; self.cpus];
            let zero = PerCpuValues::try_from(zero).map_err(|e| failed("count a backend anew", &e))?;
            self.backend_counters.set(number, zero, 0).map_err(|e| failed("write BACKEND_COUNTERS", &e))?;
        }
        let value: BackendBytes = transmute!(value);
        self.backends.set(number, value, 0).map_err(|e| failed("write BACKENDS", &e))
    }

    /// Make a ring aside and put it in place. An empty one holds a single slot without a backend.
    fn ring(&mut self, index: u32, slots: &[Slot]) -> Result<(), DatapathError> {
        let mut words: Vec<u32> = slots.iter().map(|slot| slot.word()).collect();
        if words.is_empty() {
            words.push(0);
        }
        let keys: Vec<u32> = (0..words.len() as u32).collect();
        let ring = bpf::inner_array(words.len() as u32).map_err(|e| failed("make a ring", &e))?;
        bpf::update_many(ring.as_fd(), &keys, &words).map_err(|e| failed("fill a ring", &e))?;
        let ring = MapData::from_fd(ring).map_err(|e| failed("make a ring", &e))?;
        self.put(index, &ring)
    }

    /// Rows of a service and of a backend, and all replies.
    pub(super) fn forward_of(&self, id: u32) -> Result<ForwardValue, DatapathError> {
        self.forward.get(&id, 0).map(|row| transmute!(row)).map_err(|e| failed("read FORWARD", &e))
    }

    pub(super) fn backend_of(&self, number: Backend) -> Result<BackendValue, DatapathError> {
        self.backends.get(&number.into(), 0).map(|row| transmute!(row)).map_err(|e| failed("read BACKENDS", &e))
    }

    pub(super) fn replies(&self) -> Result<Reverse, DatapathError> {
        let entries = self.reverse.iter().map(|entry| entry.map(|(key, value)| (transmute!(key), transmute!(value))));
        entries.collect::<Result<_, _>>().map_err(|e| failed("read REVERSE", &e))
    }

    /// Every remembered flow.
    pub(super) fn flows(&self) -> Result<Vec<(FlowKey, FlowValue)>, DatapathError> {
        bpf::all_of_hash(self.flows_data.as_fd()).map_err(|e| failed("read FLOWS", &e))
    }

    /// What is remembered of a flow.
    pub(super) fn flow(&self, key: &FlowKey) -> Option<FlowValue> {
        let key: FlowKeyBytes = transmute!(*key);
        self.flows.get(&key, 0).ok().map(|value| transmute!(value))
    }

    /// Forget these; one that is forgotten already will do.
    pub(super) fn forget(&mut self, keys: &[FlowKey]) -> Result<(), DatapathError> {
        for key in keys {
            let key: FlowKeyBytes = transmute!(*key);
            maps::gone(self.flows.remove(&key)).map_err(|e| failed("write FLOWS", &e))?;
        }
        Ok(())
    }

    pub(super) fn backend_counter(&self, number: Backend) -> Result<BackendCounter, DatapathError> {
        let cpus = self.backend_counters.get(&number.into(), 0).map_err(|e| failed("read BACKEND_COUNTERS", &e))?;
        let values = cpus.iter().filter_map(|bytes| BackendCounter::read_from_bytes(bytes).ok());
        Ok(values.fold(BackendCounter::default(), |sum, cpu| BackendCounter {
            packets: sum.packets + cpu.packets,
            bytes: sum.bytes + cpu.bytes,
            flows: sum.flows + cpu.flows,
        }))
    }

    pub(super) fn flow_counter(&self, service: u32) -> Result<FlowCounter, DatapathError> {
        let cpus = self.flow_counters.get(&service, 0).map_err(|e| failed("read FLOW_COUNTERS", &e))?;
        let values = cpus.iter().filter_map(|bytes| FlowCounter::read_from_bytes(bytes).ok());
        Ok(values.fold(FlowCounter::default(), |sum, cpu| FlowCounter {
            remembered: sum.remembered + cpu.remembered,
            dead: sum.dead + cpu.dead,
            not_remembered: sum.not_remembered + cpu.not_remembered,
            forgotten: sum.forgotten + cpu.forgotten,
        }))
    }
}
