//! The tables that change while the edge runs, and the counters.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, SockMap};
use lb_common::Verdict;
use lb_common::abi::{self, Address, Counter, NO_SERVICE, ServiceKey, ServiceValue, VipFilter, VipValue, counter_row};
use lb_common::flow::filter_bit;
use zerocopy::transmute;

use super::bpf;
use super::error::failed;
use super::load::absent;
use super::plan::{State, Write, wire};
use crate::datapath::{Counters, DatapathError, Listener, PacketCounter};

// aya takes plain bytes as keys and values without a promise in unsafe code.
type ServiceKeyBytes = [u8; size_of::<ServiceKey>()];
type ServiceValueBytes = [u8; size_of::<ServiceValue>()];
type AddressBytes = [u8; size_of::<Address>()];
type FilterBytes = [u8; size_of::<VipFilter>()];
type VipBytes = [u8; size_of::<VipValue>()];

/// Handles of the maps.
pub(in crate::datapath) struct Tables {
    services: HashMap<MapData, ServiceKeyBytes, ServiceValueBytes>,
    vips: HashMap<MapData, AddressBytes, VipBytes>,
    filter: Array<MapData, FilterBytes>,
    sockets: SockMap<MapData>,
    counters: OwnedFd,
    cpus: usize,
    flows: PerCpuArray<MapData, u64>,
    /// Services that have or had entries: the only rows of `counters` that can be other than zero.
    counted: BTreeSet<u32>,
}

impl Tables {
    /// Take the maps out of the loaded object.
    pub(in crate::datapath) fn take(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        Ok(Self {
            services: take(ebpf, abi::SERVICES)?,
            vips: take(ebpf, abi::VIPS)?,
            filter: take(ebpf, abi::VIP_FILTER)?,
            sockets: take(ebpf, abi::WORKER_SOCKETS)?,
            counters: descriptor(ebpf, abi::COUNTERS)?,
            cpus: aya::util::nr_cpus().map_err(|(path, e)| failed(format!("read {path}"), &e))?,
            flows: take(ebpf, abi::WORKER_FLOWS)?,
            counted: BTreeSet::from([NO_SERVICE]),
        })
    }

    /// What an edge has written.
    pub(in crate::datapath) fn state(&self) -> Result<State, DatapathError> {
        let unread = |e: MapError| failed("read SERVICES and VIPS", &e);
        let mut state = State::default();
        for entry in self.services.iter() {
            let (key, value) = entry.map_err(unread)?;
            state.found_service(transmute!(key), transmute!(value));
        }
        for entry in self.vips.iter() {
            let (address, value) = entry.map_err(unread)?;
            state.found_vip(transmute!(address), transmute!(value));
        }
        Ok(state)
    }

    /// All of `writes`, or, on an error, none: what was written is put back as `in_force` has it.
    pub(in crate::datapath) fn write_all(&mut self, writes: &[Write], in_force: &State) -> Result<(), DatapathError> {
        for (done, write) in writes.iter().enumerate() {
            if let Err(e) = self.write(write) {
                self.undo(&writes[..done], in_force);
                return Err(failed(format!("change the kernel's tables ({write:?})"), &e));
            }
        }
        Ok(())
    }

    /// Let packets to these addresses, and to few others, be looked at.
    pub(in crate::datapath) fn let_in<'a>(
        &mut self,
        addresses: impl Iterator<Item = &'a IpAddr>,
    ) -> Result<(), DatapathError> {
        let mut filter = VipFilter([0; 64]);
        for address in addresses {
            let words: [u32; 4] = transmute!(wire(*address));
            let bit = filter_bit(&words);
            filter.0[(bit / 64) as usize] |= 1 << (bit % 64);
        }
        let filter: FilterBytes = transmute!(filter);
        self.filter.set(0, filter, 0).map_err(|e| failed("write VIP_FILTER", &e))
    }

    /// Put back what `in_force` has in place of `writes`.
    pub(in crate::datapath) fn undo(&mut self, writes: &[Write], in_force: &State) {
        for write in writes.iter().rev() {
            if let Err(e) = self.write(&in_force.inverse(write)) {
                tracing::error!(error = %e, ?write, "a change of the kernel's tables could not be undone");
            }
        }
    }

    /// Services whose packets are counted from now on.
    pub(in crate::datapath) fn count(&mut self, ids: impl Iterator<Item = u32>) {
        self.counted.extend(ids);
    }

    /// Assign connections to this listener from now on.
    pub(in crate::datapath) fn listen(&mut self, listener: &Listener) -> Result<(), DatapathError> {
        self.sockets
            .set(listener.worker, &listener.socket, 0)
            .map_err(|e| failed(format!("hand the listener of worker {} to the kernel", listener.worker), &e))
    }

    /// Packets by service and verdict.
    pub(in crate::datapath) fn packets(&self) -> Result<Vec<PacketCounter>, DatapathError> {
        let mut packets = Vec::new();
        for service in &self.counted {
            let (first, count) = (counter_row(*service, Verdict::ALL[0]), Verdict::ALL.len());
            let rows: Vec<Counter> = bpf::rows_per_cpu(self.counters.as_fd(), first, count, self.cpus)
                .map_err(|e| failed(format!("read COUNTERS of service {service}"), &e))?;
            for (verdict, cpus) in Verdict::ALL.iter().zip(rows.chunks(self.cpus)) {
                let sum = sum(cpus.iter());
                if sum != Counter::default() {
                    let Counter { packets: count, bytes } = sum;
                    packets.push(PacketCounter { service: *service, verdict: verdict.name(), packets: count, bytes });
                }
            }
        }
        Ok(packets)
    }

    /// All counters; connections of workers 0 to `workers`.
    pub(in crate::datapath) fn counters(&self, workers: u32) -> Result<Counters, DatapathError> {
        let flows = |worker| {
            let cpus = self.flows.get(&worker, 0).map_err(|e| failed("read WORKER_FLOWS", &e))?;
            Ok((worker, cpus.iter().sum()))
        };
        let worker_flows = (0..workers).map(flows).collect::<Result<_, DatapathError>>()?;
        Ok(Counters { packets: self.packets()?, worker_flows, ..Counters::default() })
    }

    fn write(&mut self, write: &Write) -> Result<(), MapError> {
        match *write {
            Write::Service(key, Some(value)) => {
                let (key, value): (ServiceKeyBytes, ServiceValueBytes) = (transmute!(key), transmute!(value));
                self.services.insert(key, value, 0)
            }
            Write::Service(key, None) => gone(self.services.remove(&transmute!(key))),
            Write::Vip(address, Some(value)) => {
                let (address, value): (AddressBytes, VipBytes) = (transmute!(address), transmute!(value));
                self.vips.insert(address, value, 0)
            }
            Write::Vip(address, None) => gone(self.vips.remove(&transmute!(address))),
        }
    }
}

/// An entry that is not there is as good as removed.
pub(super) fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        result => result,
    }
}

fn sum<'a>(cpus: impl Iterator<Item = &'a Counter>) -> Counter {
    cpus.fold(Counter::default(), |sum, cpu| Counter {
        packets: sum.packets + cpu.packets,
        bytes: sum.bytes + cpu.bytes,
    })
}

pub(super) fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<M, DatapathError> {
    let map = ebpf.take_map(name).ok_or_else(|| absent("map", name))?;
    M::try_from(map).map_err(|e| failed(format!("use the map {name}"), &e))
}

/// A descriptor of a map for calls that aya has not.
pub(super) fn descriptor(ebpf: &mut Ebpf, name: &str) -> Result<OwnedFd, DatapathError> {
    let map = ebpf.map(name).ok_or_else(|| absent("map", name))?;
    let data = match map {
        Map::PerCpuArray(data) | Map::LruHashMap(data) | Map::ArrayOfMaps(data) | Map::Array(data) => data,
        _ => return Err(absent("map of the expected kind", name)),
    };
    data.fd().as_fd().try_clone_to_owned().map_err(|e| failed(format!("use the map {name}"), &e))
}
