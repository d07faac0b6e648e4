//! Traffic for tests and measurements: run over live frames by BPF_PROG_TEST_RUN, `flood` writes a frame of some flow
//! into each and sends it out of an interface. It is no part of an edge.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(not(target_arch = "bpf"), allow(dead_code, reason = "the program has no caller on the host"))]

#[path = "../object.rs"]
mod object;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_redirect};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::XdpContext;

/// Words of every frame.
const WORDS: usize = 24;
/// `Plan::kind`: sound frames.
const SOUND: u32 = 0;
/// Offset of an IPv4 source, of its header's checksum, of what follows.
const V4: (usize, usize, usize) = (26, 24, 34);
/// Offset of the last word of an IPv6 source, of what follows.
const V6: (usize, usize) = (34, 54);
/// Offsets in TCP.
const TCP_SEQUENCE: usize = 4;
const TCP_CHECKSUM: usize = 16;

/// What is sent; written by `lb_tests::flood`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Plan {
    /// A whole frame of TCP, its checksums those of source port 0, sequence number 0 and the first source address.
    frame: [u32; WORDS],
    /// Where to.
    interface: u32,
    /// So many flows, 2^24 at the most; 0: every frame is of a flow of its own.
    flows: u32,
    /// [`SOUND`], or frames with random words in them.
    kind: u32,
    /// The frame is IPv6.
    v6: u32,
    /// So many destination ports, from the frame's on; below 2^16.
    ports: u32,
}

#[map]
static PLAN: Array<Plan> = Array::with_max_entries(1, 0);

#[xdp]
fn flood(ctx: XdpContext) -> u32 {
    let Some(plan) = PLAN.get(0) else { return xdp_action::XDP_ABORTED };
    let start = ctx.data();
    if start + WORDS * 4 > ctx.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    // Whole, every time: whoever had this page before has written into it.
    for (at, word) in plan.frame.iter().enumerate() {
        // SAFETY: the frame holds WORDS words, as was checked.
        unsafe { ((start + at * 4) as *mut u32).write(*word) };
    }
    let chance = random();
    let flow = match plan.flows {
        0 => chance & 0xff_ffff,
        flows => ((u64::from(chance) * u64::from(flows)) >> 32) as u32,
    };
    let port = ((u64::from(random()) * u64::from(plan.ports)) >> 32) as u32;
    if plan.v6 == 0 {
        of_flow_v4(start, flow, port)
    } else {
        of_flow_v6(start, flow, port)
    }
    if plan.kind != SOUND {
        spoil(start, ctx.data_end());
    }
    // SAFETY: the helper takes any numbers.
    unsafe { bpf_redirect(plan.interface, 0) as u32 }
}

/// 16 ports of each source. The source's bits that vary are zero in the plan's frame.
#[inline(always)]
fn of_flow_v4(start: usize, flow: u32, port: u32) {
    let (source, checksum, upper) = V4;
    let address = flow >> 4;
    let (high, low) = halves(start, source);
    put(start, source, high | (address >> 16) as u16);
    put(start, source + 2, low | address as u16);
    let sum = (address >> 16) + (address & 0xffff);
    add(start, checksum, sum);
    of_flow(start, upper, flow, port, sum);
}

#[inline(always)]
fn of_flow_v6(start: usize, flow: u32, port: u32) {
    let (source, upper) = V6;
    let address = flow >> 4;
    let (high, low) = halves(start, source);
    put(start, source, high | (address >> 16) as u16);
    put(start, source + 2, low | address as u16);
    of_flow(start, upper, flow, port, (address >> 16) + (address & 0xffff));
}

#[inline(always)]
fn of_flow(start: usize, upper: usize, flow: u32, port: u32, addresses: u32) {
    let source = 0x4000 | (flow & 15);
    let sequence = random();
    put(start, upper, source as u16);
    put(start, upper + 2, get(start, upper + 2) + port as u16);
    put(start, upper + TCP_SEQUENCE, (sequence >> 16) as u16);
    put(start, upper + TCP_SEQUENCE + 2, sequence as u16);
    add(start, upper + TCP_CHECKSUM, addresses + source + port + (sequence >> 16) + (sequence & 0xffff));
}

/// Random words somewhere in the headers behind the MAC addresses.
#[inline(always)]
fn spoil(start: usize, end: usize) {
    for _ in 0..3 {
        // Masked, not divided: so the verifier sees the bound.
        let at = start + 12 + (random() & 15) as usize * 4;
        if at + 4 > end {
            return;
        }
        // SAFETY: the word ends within the frame, as was checked.
        unsafe { (at as *mut u32).write(random()) };
    }
}

#[inline(always)]
fn random() -> u32 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_get_prandom_u32() }
}

#[inline(always)]
fn halves(start: usize, offset: usize) -> (u16, u16) {
    (get(start, offset), get(start, offset + 2))
}

/// A number of the frame. Every offset here is even and below the frame's end.
#[inline(always)]
fn get(start: usize, offset: usize) -> u16 {
    // SAFETY: as the comment above says.
    u16::from_be(unsafe { ((start + offset) as *const u16).read() })
}

#[inline(always)]
fn put(start: usize, offset: usize, value: u16) {
    // SAFETY: as above.
    unsafe { ((start + offset) as *mut u16).write(value.to_be()) }
}

/// Add to what a checksum (RFC 1071) is over.
#[inline(always)]
fn add(start: usize, offset: usize, more: u32) {
    let sum = u32::from(!get(start, offset)) + more;
    let sum = (sum & 0xffff) + (sum >> 16);
    put(start, offset, !((sum & 0xffff) + (sum >> 16)) as u16);
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
