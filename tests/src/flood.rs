//! Traffic in millions of frames: an XDP program of our own, run over live frames by BPF_PROG_TEST_RUN, writes a frame
//! of some flow into each and sends it out of an interface. And what an attached XDP program cost meanwhile.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use aya::maps::Array;
use aya::programs::xdp::XdpMode;
use aya::programs::{ProgramInfo, TestRun as _, TestRunAttrs, TestRunOptions, Xdp, loaded_programs};
use aya::sys::{Stats, enable_stats};
use aya::{Ebpf, EbpfLoader};
use lb_user::datapath::probe;

use crate::netns::Namespace;

/// Bytes of every frame.
pub const FRAME: usize = 96;
/// Frames that the kernel makes before it lets the receiver have them. A veth's ring holds 256.
const BATCH: u32 = 64;
const PLAN: &str = "PLAN";
const ACK: u8 = 0x10;
const SYN: u8 = 0x02;

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    /// MAC address of the edge.
    pub mac: [u8; 6],
    /// Sources begin here; the lower 20 bits of IPv4, the last 32 of IPv6, vary with the flow and are zero.
    pub from: IpAddr,
    /// Where to.
    pub to: SocketAddr,
    /// So many flows, 2^24 at the most; none: every frame is of a flow of its own, and begins it.
    pub flows: Option<u32>,
    /// Random words are written over the frame's headers.
    pub spoiled: bool,
    /// Destination ports, from that of `to` on.
    pub ports: u16,
    /// Frames begin flows (SYN), or are of flows that go on (ACK).
    pub begins: bool,
}

impl Traffic {
    /// SYNs, each of a flow of its own.
    pub fn syns(mac: [u8; 6], from: IpAddr, to: SocketAddr) -> Self {
        Self { mac, from, to, flows: None, spoiled: false, ports: 1, begins: true }
    }

    /// The frame of source port 0 and sequence number 0, with its checksums. What is behind its IP length belongs to
    /// no header.
    pub fn frame(&self) -> Result<[u8; FRAME]> {
        let mut frame = [0; FRAME];
        frame[..6].copy_from_slice(&self.mac);
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        let upper = match (self.from, self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ipv4(&mut frame, from, to),
            (IpAddr::V6(from), IpAddr::V6(to)) => ipv6(&mut frame, from, to),
            other => bail!("a frame of two families: {other:?}"),
        };
        let flags = if self.begins { SYN } else { ACK };
        frame[upper + 2..upper + 4].copy_from_slice(&self.to.port().to_be_bytes());
        frame[upper + 12..upper + 16].copy_from_slice(&[0x50, flags, 0xff, 0xff]);
        // Both addresses stand right before TCP in either family; RFC 9293, 3.1.
        let addresses = if self.from.is_ipv4() { 8 } else { 32 };
        let pseudo = sum(&frame[upper - addresses..upper + 20]) + u32::from(crate::packet::TCP) + 20;
        let checksum = fold(pseudo);
        frame[upper + 16..upper + 18].copy_from_slice(&(!checksum).to_be_bytes());
        Ok(frame)
    }
}

/// Sends out of one interface, on the CPU of the calling thread.
pub struct Generator<'a> {
    space: &'a Namespace,
    program: Ebpf,
    frame: [u8; FRAME],
    interface: u32,
}

impl<'a> Generator<'a> {
    /// Out of `interface` of `space`, whose other end has to take frames of XDP: it needs an XDP program or GRO.
    pub fn open(space: &'a Namespace, interface: &str) -> Result<Self> {
        let mut program = EbpfLoader::new().load(probe::flood()).context("load the generator")?;
        xdp(&mut program, "flood")?.load().context("load the generator")?;
        let interface = index(space, interface)?;
        Ok(Self { space, program, frame: [0; FRAME], interface })
    }

    /// What is sent from now on.
    pub fn aim(&mut self, traffic: &Traffic) -> Result<()> {
        self.frame = traffic.frame()?;
        let mut plan = [0_u32; FRAME / 4 + 5];
        for (word, bytes) in plan.iter_mut().zip(self.frame.chunks_exact(4)) {
            *word = u32::from_ne_bytes(bytes.try_into()?);
        }
        let rest = [
            self.interface,
            traffic.flows.unwrap_or(0),
            u32::from(traffic.spoiled),
            u32::from(traffic.from.is_ipv6()),
            u32::from(traffic.ports),
        ];
        plan[FRAME / 4..].copy_from_slice(&rest);
        let map = self.program.map_mut(PLAN).context("the generator's map")?;
        Ok(Array::<_, [u32; FRAME / 4 + 5]>::try_from(map)?.set(0, plan, 0)?)
    }

    /// Send so many frames; how long it took, with all that the receiver did in the meantime on this CPU.
    pub fn send(&mut self, frames: u32, cpu: Option<usize>) -> Result<Duration> {
        let (frame, space) = (self.frame, self.space);
        let program = xdp(&mut self.program, "flood")?;
        space.run(|| {
            cpu.map_or(Ok(()), crate::netns::pin)?;
            let attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
            let options = TestRunOptions { data_in: Some(&frame), repeat: frames, attrs, ..TestRunOptions::default() };
            let start = Instant::now();
            program.test_run(options).context("run the generator over live frames")?;
            Ok(start.elapsed())
        })
    }
}

/// A program that drops every frame, on an interface; gone when dropped.
pub struct Sink {
    _program: Ebpf,
}

impl Sink {
    /// Attach it.
    pub fn attach(space: &Namespace, interface: &str) -> Result<Self> {
        let mut program = EbpfLoader::new().load(probe::baseline()).context("load the empty program")?;
        let baseline = xdp(&mut program, "baseline")?;
        baseline.load().context("load the empty program")?;
        space.run(|| {
            baseline.attach(interface, XdpMode::Driver).with_context(|| format!("attach to {interface}"))?;
            Ok(())
        })?;
        Ok(Self { _program: program })
    }
}

/// The XDP program of an interface, and how often and how long it ran while this lives.
pub struct Meter {
    id: u32,
    before: (Duration, u64),
    // The kernel counts while somebody holds this.
    _statistics: std::os::fd::OwnedFd,
}

impl Meter {
    /// Count from now on.
    pub fn start(space: &Namespace, interface: &str) -> Result<Self> {
        let statistics = enable_stats(Stats::RunTime).context("enable BPF statistics")?;
        let text = space.output("ip", &["-d", "-j", "link", "show", "dev", interface])?;
        let link: serde_json::Value = serde_json::from_str(&text)?;
        let id = link[0]["xdp"]["prog"]["id"].as_u64().with_context(|| format!("no XDP program: {text}"))?;
        let id = id.try_into()?;
        Ok(Self { id, before: counted(id)?, _statistics: statistics })
    }

    /// Time in the program, and its runs, since it was started.
    pub fn read(&self) -> Result<(Duration, u64)> {
        let (time, runs) = counted(self.id)?;
        Ok((time - self.before.0, runs - self.before.1))
    }
}

fn counted(id: u32) -> Result<(Duration, u64)> {
    let ours = |info: &ProgramInfo| info.id() == id;
    let info = loaded_programs().filter_map(Result::ok).find(ours).context("the program is gone")?;
    Ok((info.run_time(), info.run_count()))
}

/// MAC address of an interface.
pub fn mac(space: &Namespace, interface: &str) -> Result<[u8; 6]> {
    let text = space.output("ip", &["-j", "link", "show", "dev", interface])?;
    let link: serde_json::Value = serde_json::from_str(&text)?;
    let address = link[0]["address"].as_str().context("an interface without an address")?;
    let bytes: Result<Vec<u8>, _> = address.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    let bytes = bytes?;
    ensure!(bytes.len() == 6, "{address} is no MAC address");
    Ok([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]])
}

fn index(space: &Namespace, interface: &str) -> Result<u32> {
    let text = space.output("ip", &["-j", "link", "show", "dev", interface])?;
    let link: serde_json::Value = serde_json::from_str(&text)?;
    Ok(link[0]["ifindex"].as_u64().context("an interface without an index")?.try_into()?)
}

fn xdp<'a>(program: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(program.program_mut(name).with_context(|| format!("the object has no {name}"))?.try_into()?)
}

fn ipv4(frame: &mut [u8; FRAME], from: Ipv4Addr, to: Ipv4Addr) -> usize {
    frame[12..14].copy_from_slice(&[0x08, 0]);
    frame[14..26].copy_from_slice(&[0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, crate::packet::TCP, 0, 0]);
    frame[26..30].copy_from_slice(&from.octets());
    frame[30..34].copy_from_slice(&to.octets());
    let checksum = fold(sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&(!checksum).to_be_bytes());
    34
}

fn ipv6(frame: &mut [u8; FRAME], from: Ipv6Addr, to: Ipv6Addr) -> usize {
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, 20, crate::packet::TCP, 64]);
    frame[22..38].copy_from_slice(&from.octets());
    frame[38..54].copy_from_slice(&to.octets());
    54
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum()
}

fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_a_frame_add_up() {
        let to4: SocketAddr = "10.99.0.1:443".parse().unwrap();
        let to6: SocketAddr = "[fd99::1]:443".parse().unwrap();
        for (from, to, upper) in [(IpAddr::from([198, 18, 0, 0]), to4, 34), ("fd18::".parse().unwrap(), to6, 54)] {
            let frame = Traffic::syns([2; 6], from, to).frame().unwrap();
            let addresses = if from.is_ipv4() { 8 } else { 32 };
            assert_eq!(fold(sum(&frame[upper - addresses..upper + 20]) + 6 + 20), 0xffff);
            assert!(from.is_ipv6() || fold(sum(&frame[14..34])) == 0xffff);
        }
    }
}
