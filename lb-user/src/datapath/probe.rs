//! `edge` without an interface: a packet is run through it by BPF_PROG_TEST_RUN. For tests and measurements.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use aya::maps::{PerCpuArray, PerCpuValues};
use aya::programs::{ProgramInfo, TestRun as _, Xdp};
use aya::sys::{Stats, enable_stats};
use aya::{Ebpf, EbpfLoader, TestRunOptions, include_bytes_aligned};
use lb_common::abi::{self, DEFAULT_MAX_ADDRESSES, DEFAULT_MAX_SERVICES, HopValue};
use lb_common::flow::hop_index;
use zerocopy::transmute;

use super::kernel::{
    Bounds, Forwarding, Loaded, Plan, Settings, Setup, Shield, State, Table, Tables, failed, load, wire,
};
use super::{DatapathError, Desired, FlowAnswer, ForwardState, PacketCounter, Protocol, Tuning, Worker};

static BASELINE: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bailey-baseline"));
/// The object with `baseline`, for who attaches it.
pub fn baseline() -> &'static [u8] {
    BASELINE
}
/// The object with `flood`, which makes traffic.
pub fn flood() -> &'static [u8] {
    static FLOOD: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bailey-flood"));
    FLOOD
}

/// Room for what a program might put around a frame.
const OUTPUT_ROOM: usize = 256;
const BOUNDS: Bounds = Bounds { services: DEFAULT_MAX_SERVICES, addresses: DEFAULT_MAX_ADDRESSES };

/// A loaded `edge` that is attached to nothing, with its tables, beside an empty program.
pub struct Probe {
    edge: Ebpf,
    baseline: Ebpf,
    tables: Tables,
    table: Table,
    settings: Settings,
    shield: Shield,
    forwarding: Forwarding,
    in_force: State,
}

/// The return value of an XDP program (`enum xdp_action`, linux/bpf.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kernel's own names")]
pub enum XdpAction {
    Aborted,
    Drop,
    Pass,
    Tx,
    Redirect,
    Unknown(u32),
}

/// What became of one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What the program returned.
    pub action: XdpAction,
    /// The frame as the program left it.
    pub output: Vec<u8>,
}

/// Which program is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The XDP program of the edge.
    Edge,
    /// One that drops every packet and does nothing else.
    Baseline,
}

/// A next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Interface to send out of; [`LOOPBACK`] is the one that packets of a probe come in by.
    pub interface: u32,
    /// Bytes of a packet at the most.
    pub mtu: u32,
    /// Destination MAC address.
    pub to: [u8; 6],
    /// Source MAC address.
    pub from: [u8; 6],
}

/// Index of `lo`.
pub const LOOPBACK: u32 = 1;

/// BPF run time (`run_time_ns` and `run_cnt` of `bpf_prog_info`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunTime {
    /// In the program, with the clock reads of measuring.
    pub time: Duration,
    /// Runs.
    pub runs: u64,
}

impl Probe {
    /// Load with `desired` in force; steering by `rss`, or by hash.
    pub fn open(rss: bool, workers: &[Worker], desired: &Desired) -> Result<Self, DatapathError> {
        let tuning = Tuning::default();
        let setup = Setup { rss, workers, bounds: BOUNDS, log_sample: 0, tuning: &tuning };
        let Loaded { ebpf: mut edge, table, settings, .. } = load(&setup, None, false)?;
        let mut tables = Tables::take(&mut edge)?;
        let mut settings = settings;
        let mut shield = Shield::take(&mut edge)?;
        shield.apply(&mut settings, desired)?;
        let mut forwarding = Forwarding::take(&mut edge, &tuning, BTreeMap::from([(LOOPBACK, "lo".to_owned())]), None)?;
        forwarding.apply(&mut settings, &desired.forwards)?;
        let in_force = State::of(desired, BOUNDS)?;
        tables.write_all(&Plan::between(&State::default(), &in_force).add, &State::default())?;
        tables.let_in(in_force.addresses().iter())?;
        tables.count(in_force.ids());
        let mut baseline = EbpfLoader::new().load(BASELINE).map_err(|e| failed("load the empty program", &e))?;
        xdp_mut(&mut baseline, "baseline")?.load().map_err(|e| failed("load the empty program", &e))?;
        Ok(Self { edge, baseline, tables, table, settings, shield, forwarding, in_force })
    }

    /// Run one packet of at least 14 bytes through `edge`, on the CPU of this thread.
    pub fn run(&self, packet: &[u8]) -> Result<Outcome, DatapathError> {
        let mut output = vec![0; packet.len() + OUTPUT_ROOM];
        let options =
            TestRunOptions { data_in: Some(packet), data_out: Some(&mut output), ..TestRunOptions::default() };
        let result = self.program(Program::Edge)?.test_run(options).map_err(|e| failed("run a packet", &e))?;
        output.truncate(result.data_size_out as usize);
        Ok(Outcome { action: action(result.return_value), output })
    }

    /// BPF run time of `repeat` runs over one packet, on the CPU of this thread.
    pub fn measure(&self, program: Program, packet: &[u8], repeat: u32) -> Result<RunTime, DatapathError> {
        let program = self.program(program)?;
        let info = || program.info().map_err(|e| failed("read a program's run time", &e));
        let stats = enable_stats(Stats::RunTime).map_err(|e| failed("enable BPF statistics", &e))?;
        let before = info()?;
        let options = TestRunOptions { data_in: Some(packet), repeat, ..TestRunOptions::default() };
        program.test_run(options).map_err(|e| failed("run a packet", &e))?;
        let after = info()?;
        drop(stats);
        Ok(run_time(&before, &after))
    }

    /// Instructions that the kernel's verifier looked at to accept `edge`; it gives up at a million. None: the kernel
    /// does not say.
    pub fn verified_instructions(&self) -> Result<Option<u32>, DatapathError> {
        let info = self.program(Program::Edge)?.info().map_err(|e| failed("ask about a program", &e))?;
        Ok(info.verified_instruction_count())
    }

    /// Packets counted since it was loaded.
    pub fn counters(&self) -> Result<Vec<PacketCounter>, DatapathError> {
        self.tables.packets()
    }

    /// Make `desired` the state, as an edge that runs does.
    pub fn change(&mut self, desired: &Desired) -> Result<(), DatapathError> {
        let to = State::of(desired, BOUNDS)?;
        self.shield.apply(&mut self.settings, desired)?;
        self.forwarding.apply(&mut self.settings, &desired.forwards)?;
        let plan = Plan::between(&self.in_force, &to);
        self.tables.write_all(&plan.add, &self.in_force)?;
        self.tables.let_in(to.addresses().iter())?;
        self.tables.write_all(&plan.remove, &self.in_force)?;
        self.forwarding.retire(&mut self.settings);
        self.tables.count(to.ids());
        self.in_force = to;
        Ok(())
    }

    /// Have the way to a backend known, for ever: the kernel's routes are not asked.
    pub fn set_backend_hop(&mut self, service: u32, backend: SocketAddr, hop: Hop) -> Result<(), DatapathError> {
        let number = self.forwarding.number(service, backend).ok_or_else(|| absent("backend"))?;
        self.set_hop(abi::BACKEND_HOPS, number, backend.ip(), hop)
    }

    /// The same for the way to a client.
    pub fn set_client_hop(&mut self, client: IpAddr, hop: Hop) -> Result<(), DatapathError> {
        let words: [u32; 4] = transmute!(wire(client));
        self.set_hop(abi::CLIENT_HOPS, hop_index(&words), client, hop)
    }

    fn set_hop(&mut self, map: &str, index: u32, address: IpAddr, hop: Hop) -> Result<(), DatapathError> {
        let macs = <[u8; 12]>::try_from([hop.to, hop.from].concat()).unwrap_or_default();
        let until = u64::MAX;
        let value = HopValue { address: wire(address), until, interface: hop.interface, mtu: hop.mtu, macs, pad: 0 };
        let value: [u8; size_of::<HopValue>()] = transmute!(value);
        let cpus = aya::util::nr_cpus().map_err(|(path, e)| failed(format!("read {path}"), &e))?;
        let values = PerCpuValues::try_from(vec![value; cpus]).map_err(|e| failed("write a next hop", &e))?;
        let map = self.edge.map_mut(map).ok_or_else(|| absent(map))?;
        let mut map = PerCpuArray::try_from(map).map_err(|e| failed("write a next hop", &e))?;
        map.set(index, values, 0).map_err(|e| failed("write a next hop", &e))
    }

    /// Forwarded services.
    pub fn forwards(&self) -> Result<Vec<ForwardState>, DatapathError> {
        self.forwarding.states()
    }

    /// Which worker or backend a flow would go to.
    pub fn flow(&self, protocol: Protocol, source: SocketAddr, destination: SocketAddr) -> Option<FlowAnswer> {
        let service = self.in_force.service(destination.ip().to_canonical(), destination.port(), protocol);
        match service.filter(|id| self.in_force.is_forwarded(*id)) {
            Some(id) => self.forwarding.flow(id, protocol, source, destination),
            None => self.table.flow(service, source, destination),
        }
    }

    fn program(&self, program: Program) -> Result<&Xdp, DatapathError> {
        let (ebpf, name) = match program {
            Program::Edge => (&self.edge, "edge"),
            Program::Baseline => (&self.baseline, "baseline"),
        };
        let program = ebpf.program(name).ok_or_else(|| absent(name))?;
        program.try_into().map_err(|e: aya::programs::ProgramError| failed("use a program", &e))
    }
}

fn xdp_mut<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, DatapathError> {
    let program = ebpf.program_mut(name).ok_or_else(|| absent(name))?;
    program.try_into().map_err(|e: aya::programs::ProgramError| failed("use a program", &e))
}

fn absent(name: &str) -> DatapathError {
    DatapathError::Kernel { what: format!("use the program {name:?}"), why: "the object has none".to_owned() }
}

fn run_time(before: &ProgramInfo, after: &ProgramInfo) -> RunTime {
    RunTime {
        time: after.run_time().saturating_sub(before.run_time()),
        runs: after.run_count().saturating_sub(before.run_count()),
    }
}

fn action(value: u32) -> XdpAction {
    match value {
        0 => XdpAction::Aborted,
        1 => XdpAction::Drop,
        2 => XdpAction::Pass,
        3 => XdpAction::Tx,
        4 => XdpAction::Redirect,
        other => XdpAction::Unknown(other),
    }
}
