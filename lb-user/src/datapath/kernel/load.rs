//! Loading the kernel half: sizes, the configuration, and every table that stays as it is for the edge's life.

use std::io::Read as _;
use std::time::Duration;

use aya::maps::{Array, CpuMap, Map, MapData};
use aya::programs::{SkLookup, Xdp};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use lb_common::Verdict;
use lb_common::abi::{self, Config, MAX_WORKERS, NO_WORKER, STEERING_HASH, STEERING_RSS, WORKER_SLOT_COUNT};

use super::error::failed;
use super::plan::Bounds;
use super::settings::Settings;
use super::steering::Table;
use crate::datapath::{DatapathError, Tuning, Worker, slots};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bailey-edge"));

/// Frames that wait for a CPU at the most; redirects beyond are dropped. As many as a NIC's ring holds at its largest.
const CPU_QUEUE: u32 = 4096;

/// A next hop that `edge` found is asked for again after so long: the longest that a route's change goes unseen.
const HOP_LIFETIME: Duration = Duration::from_millis(100);

/// What is fixed when the programs are loaded.
pub(in crate::datapath) struct Setup<'a> {
    /// Leave flows on the CPU that the NIC chose.
    pub(in crate::datapath) rss: bool,
    pub(in crate::datapath) workers: &'a [Worker],
    pub(in crate::datapath) bounds: Bounds,
    /// One packet in so many is logged; 0: none.
    pub(in crate::datapath) log_sample: u32,
    pub(in crate::datapath) tuning: &'a Tuning,
}

/// The programs, loaded and not attached, and what the tables say of a flow.
pub(in crate::datapath) struct Loaded {
    pub(in crate::datapath) ebpf: Ebpf,
    pub(in crate::datapath) table: Table,
    pub(in crate::datapath) settings: Settings,
}

/// Name of the XDP program.
pub(super) const EDGE: &str = "edge";
/// Name of the sk_lookup program.
pub(super) const STEER: &str = "steer";

/// Load the object and fill what `setup` fixes.
pub(in crate::datapath) fn load(setup: &Setup<'_>) -> Result<Loaded, DatapathError> {
    let cpus = possible_cpus()?;
    check_workers(setup.workers, cpus)?;
    let seed = random_seed()?;
    let mut ebpf = load_object(setup, cpus)?;

    let steering = if setup.rss { STEERING_RSS } else { STEERING_HASH };
    let tuning = setup.tuning;
    let settings = Config {
        seed,
        abi_version: abi::ABI_VERSION,
        steering,
        log_sample: setup.log_sample,
        features: 0,
        forward_seed: tuning.hash_seed,
        event_interval: interval(tuning.events_per_second),
        icmp_interval: interval(tuning.icmp_per_second),
        hop_lifetime: HOP_LIFETIME.as_nanos() as u64,
        outer_v4: tuning.outer_v4.network().to_bits(),
        outer_v4_mask: tuning.outer_v4.hostmask().to_bits(),
        outer_v6: abi::Address::v6(tuning.outer_v6.network().octets()),
    };

    let indices: Vec<u32> = setup.workers.iter().map(|worker| worker.index).collect();
    let slots = slots::assign(&vec![NO_WORKER; WORKER_SLOT_COUNT as usize], &indices);
    let mut slot_map = array::<u32>(&mut ebpf, abi::WORKER_SLOTS)?;
    for (slot, worker) in (0..).zip(&slots) {
        slot_map.set(slot, worker, 0).map_err(|e| failed("write WORKER_SLOTS", &e))?;
    }
    fill_workers(&mut ebpf, setup.workers, cpus)?;

    let edge: &mut Xdp = program(&mut ebpf, EDGE)?;
    edge.load().map_err(|e| failed("load the XDP program `edge`", &e))?;
    let steer: &mut SkLookup = program(&mut ebpf, STEER)?;
    steer.load().map_err(|e| failed("load the sk_lookup program `steer`", &e))?;

    let settings = Settings::write(&mut ebpf, settings)?;
    let table = Table { seed, rss: setup.rss, slots, workers: setup.workers.to_vec() };
    Ok(Loaded { ebpf, table, settings })
}

/// A program of the object by name.
pub(super) fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, DatapathError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or_else(|| absent("program", name))?;
    program.try_into().map_err(|e| failed(format!("use the program `{name}`"), &e))
}

pub(super) fn absent(kind: &str, name: &str) -> DatapathError {
    DatapathError::Kernel {
        what: format!("use the {kind} {name:?}"),
        why: "the object has none of this name".to_owned(),
    }
}

fn load_object(setup: &Setup<'_>, cpus: u32) -> Result<Ebpf, DatapathError> {
    // Additions are written before removals, so that for a moment both stand.
    let entries = setup.bounds.addresses.saturating_mul(2).max(1);
    let rows = setup.bounds.services.saturating_add(1);
    let backends = setup.tuning.max_backends.saturating_add(1);
    let log_level = if setup.log_sample == 0 { 0u8 } else { u8::MAX };
    EbpfLoader::new()
        .map_max_entries(abi::SERVICES, entries)
        .map_max_entries(abi::VIPS, entries)
        .map_max_entries(abi::COUNTERS, rows.saturating_mul(Verdict::COUNT))
        .map_max_entries(abi::FORWARD, rows)
        .map_max_entries(abi::RINGS, rows.saturating_mul(2))
        .map_max_entries(abi::BACKENDS, backends)
        .map_max_entries(abi::FLOWS, setup.tuning.max_flows)
        .map_max_entries(abi::REVERSE, entries)
        .map_max_entries(abi::BACKEND_HOPS, backends)
        .map_max_entries(abi::BACKEND_COUNTERS, backends)
        .map_max_entries(abi::FLOW_COUNTERS, rows)
        .map_max_entries(abi::SHIELD, rows)
        .map_max_entries(abi::BUCKETS, rows)
        .map_max_entries(abi::PREFIXES_V4, setup.tuning.max_prefixes)
        .map_max_entries(abi::PREFIXES_V6, setup.tuning.max_prefixes)
        .map_max_entries(abi::SOURCES, setup.tuning.max_sources)
        .map_max_entries(abi::CPU_WORKER, cpus)
        .map_max_entries(abi::CPUS, cpus)
        .override_global(aya_log::LEVEL, &log_level, true)
        .load(OBJECT)
        .map_err(|e| failed("load the BPF object", &e))
}

fn fill_workers(ebpf: &mut Ebpf, workers: &[Worker], cpus: u32) -> Result<(), DatapathError> {
    let mut worker_map = array::<u32>(ebpf, abi::WORKERS)?;
    for worker in workers {
        worker_map.set(worker.index, worker.cpu, 0).map_err(|e| failed("write WORKERS", &e))?;
    }
    let mut of_cpu = array::<u32>(ebpf, abi::CPU_WORKER)?;
    for cpu in 0..cpus {
        let worker = workers.iter().find(|worker| worker.cpu == cpu).map_or(NO_WORKER, |worker| worker.index);
        of_cpu.set(cpu, worker, 0).map_err(|e| failed("write CPU_WORKER", &e))?;
    }
    let map = ebpf.map_mut(abi::CPUS).ok_or_else(|| absent("map", abi::CPUS))?;
    let mut targets = CpuMap::try_from(map).map_err(|e| failed("use the map CPUS", &e))?;
    for worker in workers {
        targets
            .set(worker.cpu, CPU_QUEUE, None, 0)
            .map_err(|e| failed(format!("make CPU {} a redirect target", worker.cpu), &e))?;
    }
    Ok(())
}

fn array<'a, V: aya::Pod>(ebpf: &'a mut Ebpf, name: &str) -> Result<Array<&'a mut MapData, V>, DatapathError> {
    let map: &mut Map = ebpf.map_mut(name).ok_or_else(|| absent("map", name))?;
    Array::try_from(map).map_err(|e| failed(format!("use the map {name}"), &e))
}

fn check_workers(workers: &[Worker], cpus: u32) -> Result<(), DatapathError> {
    if workers.len() > MAX_WORKERS as usize {
        let (count, bound) = (workers.len(), MAX_WORKERS as usize);
        return Err(DatapathError::Full { what: "workers", count, bound, key: "cpus" });
    }
    match workers.iter().find(|worker| worker.cpu >= cpus || worker.index >= MAX_WORKERS) {
        None => Ok(()),
        Some(worker) => Err(DatapathError::Kernel {
            what: format!("place worker {} on CPU {}", worker.index, worker.cpu),
            why: format!("this host has CPUs 0 to {}", cpus.saturating_sub(1)),
        }),
    }
}

fn possible_cpus() -> Result<u32, DatapathError> {
    let cpus = aya::util::nr_cpus().map_err(|(path, e)| failed(format!("read {path}"), &e))?;
    Ok(u32::try_from(cpus).unwrap_or(u32::MAX).min(abi::MAX_CPUS))
}

/// Nanoseconds from one to the next at so many a second; 0: none.
fn interval(per_second: u32) -> u64 {
    1_000_000_000u64.checked_div(per_second.into()).unwrap_or(0)
}

fn random_seed() -> Result<u64, DatapathError> {
    let mut seed = [0u8; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut seed))
        .map_err(|e| failed("read /dev/urandom", &e))?;
    Ok(u64::from_ne_bytes(seed))
}
