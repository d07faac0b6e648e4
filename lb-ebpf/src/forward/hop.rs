//! The next hop: what the kernel's routing says, kept for a moment for each backend, and for clients as far as there
//! is room.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_ktime_get_coarse_ns};
use aya_ebpf::programs::XdpContext;
use lb_common::Verdict;
use lb_common::abi::{Address, BACKEND_V4, HopValue};
use lb_common::flow;

use super::choose::Chosen;
use super::maps::{BACKEND_HOPS, CLIENT_HOPS};
use crate::classify::Datagram;
use crate::event;
use crate::family::Family;
use crate::maps::AddressWords;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Index of `lo` in every network namespace. Routes are looked up as for packets of this host, so that forwarding
/// must be on for `lo` alone, and the kernel forwards nothing by itself.
const LOOPBACK: u32 = 1;
/// `enum` of `bpf_fib_lookup`'s results (linux/bpf.h).
const RET_SUCCESS: i64 = 0;
const RET_NOT_FORWARDED: i64 = 4;
const RET_NO_NEIGHBOUR: i64 = 7;

/// Why there is no next hop.
pub(super) enum Miss {
    /// The destination is this host, or nothing that is forwarded to.
    NotForwarded,
    NoRoute,
    NoNeighbour,
}

impl Miss {
    #[inline(always)]
    pub(super) fn verdict(self) -> Verdict {
        match self {
            Miss::NoNeighbour => Verdict::NoNeighbour,
            Miss::NotForwarded | Miss::NoRoute => Verdict::NoRoute,
        }
    }
}

/// `struct bpf_fib_lookup` (linux/bpf.h) with its unions resolved.
#[repr(C)]
#[derive(Default)]
struct Lookup {
    family: u8,
    l4_protocol: u8,
    sport: u16,
    dport: u16,
    /// Length to be checked, none; then the route's MTU.
    mtu: u16,
    interface: u32,
    tos: u32,
    source: AddressWords,
    destination: AddressWords,
    vlan: u32,
    smac: [u16; 3],
    dmac: [u16; 3],
}

const _: () = assert!(size_of::<Lookup>() == 64);

/// The next hop towards a backend.
#[inline(always)]
pub(super) fn of_backend(datagram: &Datagram<'_>, chosen: &Chosen) -> Result<&'static HopValue, Miss> {
    let cached = BACKEND_HOPS.get_ptr_mut(chosen.number).ok_or(Miss::NoRoute)?;
    find(datagram, cached, words(&chosen.backend.address), chosen.backend.flags & BACKEND_V4 != 0)
}

/// The next hop towards the datagram's destination.
#[inline(always)]
pub(super) fn of_client<F: Family>(datagram: &Datagram<'_>) -> Result<&'static HopValue, Miss> {
    let cached = CLIENT_HOPS.get_ptr_mut(flow::hop_index(&datagram.destination)).ok_or(Miss::NoRoute)?;
    find(datagram, cached, &datagram.destination, !F::V6)
}

/// An address as words.
#[inline(always)]
pub(super) fn words(address: &Address) -> &AddressWords {
    // SAFETY: both are 16 plain bytes. The address stands at the beginning of a map's value, which is aligned to
    // eight bytes.
    unsafe { &*(&raw const *address).cast::<AddressWords>() }
}

#[inline(always)]
fn find(
    datagram: &Datagram<'_>,
    cached: *mut HopValue,
    address: &AddressWords,
    v4: bool,
) -> Result<&'static HopValue, Miss> {
    // SAFETY: the helper has no precondition.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    // SAFETY: the pointer is this CPU's element; XDP runs on it with bottom halves off, so nothing interrupts.
    let hop = unsafe { &*cached };
    let same = {
        let known = words(&hop.address);
        (known[0] ^ address[0]) | (known[1] ^ address[1]) | (known[2] ^ address[2]) | (known[3] ^ address[3]) == 0
    };
    if !(same && hop.until > now) {
        let until = now + datagram.config.hop_lifetime;
        match look_up(datagram.ctx, cached, address, v4, until) {
            RET_SUCCESS => {}
            RET_NO_NEIGHBOUR => {
                event::neighbour(hop.interface, words(&hop.address));
                return Err(Miss::NoNeighbour);
            }
            RET_NOT_FORWARDED => return Err(Miss::NotForwarded),
            _ => return Err(Miss::NoRoute),
        }
    }
    Ok(hop)
}

/// Ask the kernel's routing, and keep what it says; where the neighbour is not known, keep which one it is. A function of
/// its own, as it is called seldom and would take much of the caller's stack. Gives what the helper gave.
#[inline(never)]
fn look_up(ctx: &XdpContext, cached: *mut HopValue, address: &AddressWords, v4: bool, until: u64) -> i64 {
    let mut lookup = Lookup { interface: LOOPBACK, ..Lookup::default() };
    if v4 {
        lookup.family = AF_INET;
        lookup.destination[0] = address[3];
    } else {
        lookup.family = AF_INET6;
        lookup.destination = *address;
    }
    let size = size_of::<Lookup>() as i32;
    let params = (&raw mut lookup).cast();
    // SAFETY: the context is this program's, the parameters have the size that the kernel knows.
    let result = unsafe { bpf_fib_lookup(ctx.ctx.cast::<c_void>(), params, size, 0) };
    // SAFETY: as in `find`.
    let hop = unsafe { &mut *cached };
    let (to, until) = match result {
        RET_SUCCESS => (*address, until),
        RET_NO_NEIGHBOUR if v4 => (crate::maps::mapped(lookup.destination[0]), 0),
        RET_NO_NEIGHBOUR => (lookup.destination, 0),
        _ => return result,
    };
    // SAFETY: 16 plain bytes at the beginning of a map's value; see `words`.
    unsafe { *(&raw mut hop.address).cast::<AddressWords>() = to };
    hop.until = until;
    hop.interface = lookup.interface;
    hop.mtu = lookup.mtu.into();
    let macs = [lookup.dmac, lookup.smac];
    // SAFETY: both are twelve plain bytes, and the field is aligned to four.
    unsafe { *(&raw mut hop.macs).cast::<[[u16; 3]; 2]>() = macs };
    result
}
