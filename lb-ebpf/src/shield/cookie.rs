//! SYN cookies: in a flood, `edge` answers SYNs in place of the kernel's TCP, which later checks the cookie.
//!
//! The answer has the MSS and no other option: nothing remembers what else the client offered.

use aya_ebpf::bindings::{BPF_F_CURRENT_NETNS, bpf_sock, bpf_sock_tuple, tcphdr, xdp_action};
use aya_ebpf::helpers::generated::{bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_gen_syncookie, bpf_xdp_adjust_tail};
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{Config, ServiceValue};

use super::flood;
use crate::family::Family;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
/// A TCP header at its longest.
const TCP_MAX: usize = 60;
/// A TCP header with the MSS option.
const TCP_REPLY: usize = 24;
const PROTO_TCP: u16 = 6;
const TTL: u8 = 64;

/// Addresses and ports of a SYN as `struct bpf_sock_tuple` has them: of IPv4 the first three words are used.
type Tuple = [u32; 9];

/// Answer this SYN to a terminated service with a cookie, if the service is flooded. `ip` and `tcp` are offsets of
/// headers, both without anything between them but IPv4 options. None: the kernel answers.
#[inline(always)]
pub(crate) fn answer<F: Family>(
    ctx: &XdpContext,
    _config: &Config,
    service: &ServiceValue,
    ip: usize,
    tcp: usize,
) -> Option<u32> {
    if !flood::counts(service) {
        return None;
    }
    // Tags, options and extension headers are the kernel's: who floods with them pays for them, too.
    if ip != ETHERNET || tcp != ETHERNET + ip_len::<F>() {
        return None;
    }
    (reply::<F>(ctx) == 0).then_some(xdp_action::XDP_TX)
}

const fn ip_len<F: Family>() -> usize {
    if F::V6 { IPV6 } else { IPV4 }
}

/// Make the frame a SYN-ACK; 0 when that is done. Otherwise the frame is as it was.
#[inline(never)]
fn reply<F: Family>(ctx: &XdpContext) -> i32 {
    let Some(mut tuple) = tuple::<F>(ctx) else { return 1 };
    let tuple_len = if F::V6 { 36 } else { 12 };
    // SAFETY: the tuple is long enough; whatever is found is released by `cookie`.
    let socket = unsafe {
        let tuple = (&raw mut tuple).cast::<bpf_sock_tuple>();
        bpf_skc_lookup_tcp(ctx.ctx.cast(), tuple, tuple_len, BPF_F_CURRENT_NETNS as u64, 0)
    };
    if socket.is_null() {
        return 1;
    }
    let grown = (ETHERNET + ip_len::<F>() + TCP_MAX).saturating_sub(ctx.data_end() - ctx.data()) as i32;
    // SAFETY: the context is valid; pointers into the frame are taken anew afterwards.
    if grown != 0 && unsafe { bpf_xdp_adjust_tail(ctx.ctx, grown) } != 0 {
        // SAFETY: found above, and released once.
        unsafe { bpf_sk_release(socket.cast()) };
        return 1;
    }
    let cookie = cookie::<F>(ctx, socket);
    if cookie < 0 || !write::<F>(ctx, cookie) {
        if grown != 0 {
            // SAFETY: as above. Less than what was added is never taken away.
            unsafe { bpf_xdp_adjust_tail(ctx.ctx, -grown) };
        }
        return 1;
    }
    let excess = ctx.data() as i64 + (ETHERNET + ip_len::<F>() + TCP_REPLY) as i64 - ctx.data_end() as i64;
    // SAFETY: as above. If it fails, what is too much is padding: the IP header says where the datagram ends.
    unsafe { bpf_xdp_adjust_tail(ctx.ctx, excess as i32) };
    0
}

#[inline(always)]
fn tuple<F: Family>(ctx: &XdpContext) -> Option<Tuple> {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + ETHERNET + ip_len::<F>() + 4 > end {
        return None;
    }
    let mut tuple = [0; 9];
    // SAFETY: within the frame by the check; see `Packet::read` for alignment.
    unsafe {
        if F::V6 {
            let from = (start + ETHERNET + 8) as *const u32;
            for (index, word) in tuple.iter_mut().enumerate() {
                *word = *from.add(index);
            }
        } else {
            let from = (start + ETHERNET + 12) as *const u32;
            for (index, word) in tuple.iter_mut().take(3).enumerate() {
                *word = *from.add(index);
            }
        }
    }
    Some(tuple)
}

/// The kernel's cookie for the SYN, below the MSS shifted by 32; negative where it makes none. Releases the socket.
#[inline(always)]
fn cookie<F: Family>(ctx: &XdpContext, socket: *mut bpf_sock) -> i64 {
    let ip = ctx.data() + ETHERNET;
    let tcp = ip + ip_len::<F>();
    let mut cookie = -1;
    if tcp + TCP_MAX <= ctx.data_end() {
        // SAFETY: the longest header that there is lies within the frame, the socket is held.
        unsafe {
            // The compiler would compare the byte and multiply it afterwards; the verifier wants to see the length
            // itself compared.
            let len = u32::from(core::hint::black_box(*((tcp + 12) as *const u8) >> 2)) & 0x3c;
            if len >= 20 {
                cookie =
                    bpf_tcp_gen_syncookie(socket.cast(), ip as *mut _, ip_len::<F>() as u32, tcp as *mut tcphdr, len);
            }
        }
    }
    // SAFETY: found by the caller, and released once.
    unsafe { bpf_sk_release(socket.cast()) };
    cookie
}

/// Write the SYN-ACK over the SYN.
#[inline(always)]
fn write<F: Family>(ctx: &XdpContext, cookie: i64) -> bool {
    let start = ctx.data();
    let ip = start + ETHERNET;
    let tcp = ip + ip_len::<F>();
    if tcp + TCP_MAX > ctx.data_end() {
        return false;
    }
    let word = |at: usize| at as *mut u32;
    let half = |at: usize| at as *mut u16;
    // SAFETY: all within the frame by the check; see `Packet::read` for alignment.
    unsafe {
        for index in 0..3 {
            core::ptr::swap(half(start).add(index), half(start + 6).add(index));
        }
        let mut sum = u64::from(PROTO_TCP.to_be()) + u64::from((TCP_REPLY as u16).to_be());
        if F::V6 {
            *word(ip) = 0x6000_0000_u32.to_be();
            *half(ip + 4) = (TCP_REPLY as u16).to_be();
            *((ip + 7) as *mut u8) = TTL;
            for index in 0..4 {
                let (source, destination) = (word(ip + 8).add(index), word(ip + 24).add(index));
                sum += u64::from(*source) + u64::from(*destination);
                core::ptr::swap(source, destination);
            }
        } else {
            *word(ip) = (0x4500_0000 | (IPV4 + TCP_REPLY) as u32).to_be();
            // Never in pieces, so an id is not needed (RFC 6864, 4.1).
            *word(ip + 4) = 0x4000_u32.to_be();
            *word(ip + 8) = (u32::from(TTL) << 24 | u32::from(PROTO_TCP) << 16).to_be();
            let (source, destination) = (*word(ip + 12), *word(ip + 16));
            *word(ip + 12) = destination;
            *word(ip + 16) = source;
            let addresses = u64::from(source) + u64::from(destination);
            let fixed = u64::from(*word(ip)) + u64::from(*word(ip + 4)) + u64::from(*word(ip + 8));
            *half(ip + 10) = checksum(fixed + addresses);
            sum += addresses;
        }
        core::ptr::swap(half(tcp), half(tcp + 2));
        let sequence = u32::from_be(*word(tcp + 4));
        *word(tcp + 4) = (cookie as u32).to_be();
        *word(tcp + 8) = sequence.wrapping_add(1).to_be();
        // Six words, SYN and ACK, the window at its largest without scaling.
        *word(tcp + 12) = 0x6012_ffff_u32.to_be();
        *word(tcp + 16) = 0;
        *word(tcp + 20) = (0x0204_0000 | (cookie >> 32) as u32 & 0xffff).to_be();
        for index in 0..TCP_REPLY / 4 {
            sum += u64::from(*word(tcp).add(index));
        }
        *half(tcp + 16) = checksum(sum);
    }
    true
}

/// From a sum of less than 2^16 words of 32 bits, in the packet's order, to what stands in the header.
#[inline(always)]
fn checksum(sum: u64) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}
