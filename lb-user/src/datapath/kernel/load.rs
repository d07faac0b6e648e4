//! Loading the kernel half: sizes, the configuration, and every table that stays as it is for the edge's life.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use aya::maps::{Array, Map, MapData, MapError};
use aya::programs::{SkLookup, Xdp};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use lb_common::Verdict;
use lb_common::abi::{self, Config, MAX_WORKERS, STEERING_HASH, STEERING_RSS};

use super::error::failed;
use super::pins::Pins;
use super::placement::Placement;
use super::plan::Bounds;
use super::settings::Settings;
use super::steering::Table;
use crate::datapath::{DatapathError, Tuning, Worker};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bailey-edge"));

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
    pub(in crate::datapath) placement: Placement,
}

/// Maps that one edge hands to the next: all but those that tell one reader what happens.
const KEPT: [&str; 26] = [
    abi::CONFIG,
    abi::VIPS,
    abi::VIP_FILTER,
    abi::SERVICES,
    abi::WORKER_SLOTS,
    abi::WORKERS,
    abi::CPU_WORKER,
    abi::WORKER_SOCKETS,
    abi::CPUS,
    abi::COUNTERS,
    abi::WORKER_FLOWS,
    abi::FORWARD,
    abi::RINGS,
    abi::BACKENDS,
    abi::FLOWS,
    abi::REVERSE,
    abi::BACKEND_HOPS,
    abi::CLIENT_HOPS,
    abi::DEVICES,
    abi::BACKEND_COUNTERS,
    abi::FLOW_COUNTERS,
    abi::SHIELD,
    abi::PREFIXES_V4,
    abi::PREFIXES_V6,
    abi::SOURCES,
    abi::BUCKETS,
];

/// Name of the XDP program.
pub(super) const EDGE: &str = "edge";
/// Name of the sk_lookup program.
pub(super) const STEER: &str = "steer";

/// Load the object and fill what `setup` fixes. The maps are pinned in `pins`, where that is given; with `kept` those that
/// are there already are used, and nothing is written into them.
pub(in crate::datapath) fn load(setup: &Setup<'_>, pins: Option<&Pins>, kept: bool) -> Result<Loaded, DatapathError> {
    let cpus = possible_cpus()?;
    check_workers(setup.workers, cpus)?;
    let mut ebpf = load_object(setup, cpus, pins.map(Pins::directory).filter(|_| kept))?;
    if let Some(pins) = pins {
        pins.stage_maps(&ebpf, if kept { &KEPT } else { &[] })?;
    }
    let mut placement = Placement::take(&mut ebpf, setup.workers, cpus, kept)?;
    let edge: &mut Xdp = program(&mut ebpf, EDGE)?;
    edge.load().map_err(|e| failed("load the XDP program `edge`", &e))?;
    let steer: &mut SkLookup = program(&mut ebpf, STEER)?;
    steer.load().map_err(|e| failed("load the sk_lookup program `steer`", &e))?;

    let settings = match kept {
        true => Settings::read(&mut ebpf)?,
        false => {
            placement.place()?;
            Settings::write(&mut ebpf, config(setup, random_seed()?, 0))?
        }
    };
    let (seed, slots) = (settings.config().seed, placement.slots().to_vec());
    let table = Table { seed, rss: setup.rss, slots, workers: setup.workers.to_vec() };
    Ok(Loaded { ebpf, table, settings, placement })
}

/// What holds for every packet by `setup`; the seed of the flow hash, and what is switched on.
pub(super) fn config(setup: &Setup<'_>, seed: u64, features: u32) -> Config {
    let tuning = setup.tuning;
    Config {
        seed,
        abi_version: abi::ABI_VERSION,
        steering: if setup.rss { STEERING_RSS } else { STEERING_HASH },
        log_sample: setup.log_sample,
        features,
        forward_seed: tuning.hash_seed,
        event_interval: interval(tuning.events_per_second),
        icmp_interval: interval(tuning.icmp_per_second),
        hop_lifetime: HOP_LIFETIME.as_nanos() as u64,
        outer_v4: tuning.outer_v4.network().to_bits(),
        outer_v4_mask: tuning.outer_v4.hostmask().to_bits(),
        outer_v6: abi::Address::v6(tuning.outer_v6.network().octets()),
    }
}

/// The first map of the pins in `directory` that is not of the size that `setup` asks for, by the key that says so.
pub(super) fn misfit(setup: &Setup<'_>, directory: &Path) -> Result<Option<&'static str>, DatapathError> {
    for (name, entries, key) in sizes(setup, possible_cpus()?) {
        let map =
            MapData::from_pin(directory.join(name)).map_err(|e| failed(format!("use the pinned map {name}"), &e))?;
        let has = map.info().map_err(|e| failed(format!("use the pinned map {name}"), &e))?.max_entries();
        if has != entries {
            return Ok(Some(key));
        }
    }
    Ok(None)
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

/// The key of the hash that chooses backends, of the pins in `directory`.
pub(super) fn hash_seed(directory: &Path) -> Result<u64, DatapathError> {
    let unread = |e: MapError| failed("read the pinned map CONFIG", &e);
    let map = Map::from_map_data(MapData::from_pin(directory.join(abi::CONFIG)).map_err(unread)?).map_err(unread)?;
    let map: Array<MapData, [u8; size_of::<Config>()]> = map.try_into().map_err(unread)?;
    let config: Config = zerocopy::transmute!(map.get(&0, 0).map_err(unread)?);
    Ok(config.forward_seed)
}

fn load_object(setup: &Setup<'_>, cpus: u32, inherited: Option<&Path>) -> Result<Ebpf, DatapathError> {
    let log_level = if setup.log_sample == 0 { 0u8 } else { u8::MAX };
    let mut loader = EbpfLoader::new();
    for (name, entries, _) in sizes(setup, cpus) {
        loader.map_max_entries(name, entries);
    }
    if let Some(directory) = inherited {
        for name in KEPT {
            loader.map_pin_path(name, directory.join(name));
        }
    }
    loader.override_global(aya_log::LEVEL, &log_level, true).load(OBJECT).map_err(|e| failed("load the BPF object", &e))
}

/// Entries of the maps whose size is chosen at load, and the key that chooses it.
fn sizes(setup: &Setup<'_>, cpus: u32) -> [(&'static str, u32, &'static str); 18] {
    // Additions are written before removals, so that for a moment both stand.
    let entries = setup.bounds.addresses.saturating_mul(2).max(1);
    let rows = setup.bounds.services.saturating_add(1);
    let backends = setup.tuning.max_backends.saturating_add(1);
    [
        (abi::SERVICES, entries, "max_addresses"),
        (abi::VIPS, entries, "max_addresses"),
        (abi::COUNTERS, rows.saturating_mul(Verdict::COUNT), "max_services"),
        (abi::FORWARD, rows, "max_services"),
        (abi::RINGS, rows.saturating_mul(2), "max_services"),
        (abi::BACKENDS, backends, "max_backends"),
        (abi::FLOWS, setup.tuning.max_flows, "max_flows"),
        (abi::REVERSE, entries, "max_addresses"),
        (abi::BACKEND_HOPS, backends, "max_backends"),
        (abi::BACKEND_COUNTERS, backends, "max_backends"),
        (abi::FLOW_COUNTERS, rows, "max_services"),
        (abi::SHIELD, rows, "max_services"),
        (abi::BUCKETS, rows, "max_services"),
        (abi::PREFIXES_V4, setup.tuning.max_prefixes, "max_prefixes"),
        (abi::PREFIXES_V6, setup.tuning.max_prefixes, "max_prefixes"),
        (abi::SOURCES, setup.tuning.max_sources, "max_sources"),
        (abi::CPU_WORKER, cpus, "cpus"),
        (abi::CPUS, cpus, "cpus"),
    ]
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
