//! ICMP errors that a router makes: "fragmentation needed" / "packet too big" (RFC 1191, RFC 8201) and "time exceeded". At
//! most so many a second and CPU; the rest is dropped silently, and counted as that.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::XdpContext;
use lb_common::Verdict;
use lb_common::abi::Limit;
use lb_common::checksum::Sum;
use lb_common::rate;

use crate::classify::Datagram;
use crate::family::Family;
use crate::finish::Exit;
use crate::maps::AddressWords;
use crate::packet::{ETHERNET_LEN, Ipv4, Ipv6, PROTO_ICMP, PROTO_ICMPV6, Packet, Piece};

/// Bucket of messages. Written and read by edge.
#[map]
static MESSAGES: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Messages that may be made at once after a silence.
const BURST: u64 = 50;
const TTL: u8 = 64;
/// What is quoted behind the IP header (RFC 792): ports, and a TCP sequence number.
const QUOTED: usize = 8;
const ICMP_LEN: usize = 8;
/// An IPv6 node takes every packet of this size (RFC 8200, 5): a smaller MTU is not told.
const MIN_MTU_V6: u32 = 1280;

/// What the sender is told.
#[derive(Clone, Copy)]
pub(super) enum Error {
    /// The MTU that there is.
    TooBig(u32),
    NoHopLeft,
}

/// Turn the frame into the message and send it back where it came from.
#[inline(always)]
pub(super) fn answer<F: Family>(datagram: &Datagram<'_>, service: u32, error: Error) -> Exit {
    let (told, silent) = match error {
        Error::TooBig(_) => (Verdict::TooBig, Verdict::TooBigSilent),
        Error::NoHopLeft => (Verdict::TtlExpired, Verdict::TtlExpiredSilent),
    };
    // The quote is of fixed length: a header with options or extension headers is not answered.
    let header = if F::V6 { size_of::<Ipv6>() } else { size_of::<Ipv4>() };
    if datagram.ip != ETHERNET_LEN
        || datagram.upper != ETHERNET_LEN + header
        || datagram.packet.len() < ETHERNET_LEN + header + QUOTED
        || !may_be_about::<F>(datagram)
        || !allowed(datagram.config.icmp_interval)
    {
        return Exit::of(service, silent);
    }
    let mtu = match error {
        Error::TooBig(mtu) => mtu,
        Error::NoHopLeft => 0,
    };
    match make::<F>(datagram.ctx, mtu) {
        true => Exit { sent: xdp_action::XDP_TX, ..Exit::of(service, told) },
        false => Exit::of(service, silent),
    }
}

/// No error is about another one, nor about a fragment but the first (RFC 1122, 3.2.2; RFC 4443, 2.4).
#[inline(always)]
fn may_be_about<F: Family>(datagram: &Datagram<'_>) -> bool {
    if F::V6 {
        return datagram.packet.read(ETHERNET_LEN).is_some_and(|ip: Ipv6| ip.next != PROTO_ICMPV6);
    }
    let ip: Option<Ipv4> = datagram.packet.read(ETHERNET_LEN);
    ip.is_some_and(|ip| ip.protocol != PROTO_ICMP && ip.piece() != Piece::Later)
}

#[inline(always)]
fn allowed(interval: u64) -> bool {
    if interval == 0 {
        return false;
    }
    let Some(bucket) = MESSAGES.get_ptr_mut(0) else { return false };
    // SAFETY: the helper has no precondition.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    // SAFETY: the pointer is this CPU's element; XDP runs on it with bottom halves off, so nothing interrupts.
    let bucket = unsafe { &mut *bucket };
    let taken = rate::take(&Limit { interval, burst: interval * BURST }, *bucket, now);
    if let Some(arrival) = taken {
        *bucket = arrival;
    }
    taken.is_some()
}

/// `mtu` 0: no hop is left.
#[inline(never)]
fn make<F: Family>(ctx: &XdpContext, mtu: u32) -> bool {
    let error = if mtu == 0 { Error::NoHopLeft } else { Error::TooBig(mtu) };
    message_of::<F>(ctx, error).is_some()
}

#[inline(always)]
fn message_of<F: Family>(ctx: &XdpContext, error: Error) -> Option<()> {
    let header = if F::V6 { size_of::<Ipv6>() } else { size_of::<Ipv4>() };
    let packet = Packet::new(ctx);
    let macs: [u8; 12] = packet.read(0)?;
    let ethertype: u16 = packet.read(ETHERNET_LEN - 2)?;
    let surplus = packet.len() - (ETHERNET_LEN + header + QUOTED);
    // SAFETY: the context is this program's. Every pointer into the frame is made anew below.
    unsafe {
        if bpf_xdp_adjust_tail(ctx.ctx, -(surplus as i32)) != 0
            || bpf_xdp_adjust_head(ctx.ctx, -((header + ICMP_LEN) as i32)) != 0
        {
            return None;
        }
    }
    let packet = Packet::new(ctx);
    // Back to whoever it came from.
    let [a, b, c, d, e, f, g, h, i, j, k, l] = macs;
    packet.write(0, [g, h, i, j, k, l, a, b, c, d, e, f])?;
    packet.write(ETHERNET_LEN - 2, ethertype)?;
    let (ip, icmp) = (ETHERNET_LEN, ETHERNET_LEN + header);
    let quote = icmp + ICMP_LEN;
    if F::V6 { ipv6(&packet, ip, icmp, quote, error) } else { ipv4(&packet, ip, icmp, quote, error) }
}

#[inline(always)]
fn ipv4(packet: &Packet, ip: usize, icmp: usize, quote: usize, error: Error) -> Option<()> {
    let old: Ipv4 = packet.read(quote)?;
    let mut header = Ipv4 {
        version_ihl: 0x45,
        tos: 0xc0,
        total_len: ((quote - ip + size_of::<Ipv4>() + QUOTED) as u16).to_be(),
        id: 0,
        fragment: 0,
        ttl: TTL,
        protocol: PROTO_ICMP,
        checksum: 0,
        source: old.destination,
        destination: old.source,
    };
    header.checksum = Sum::ZERO
        .add(u16::from_ne_bytes([header.version_ihl, header.tos]).into())
        .add(header.total_len.into())
        .add(u16::from_ne_bytes([header.ttl, header.protocol]).into())
        .add(header.source)
        .add(header.destination)
        .checksum();
    packet.write(ip, header)?;
    let (kind, code, mtu) = match error {
        Error::TooBig(mtu) => (3, 4, mtu.min(u16::MAX.into())),
        Error::NoHopLeft => (11, 0, 0),
    };
    let quoted: [u32; 7] = packet.read(quote)?;
    message(packet, icmp, (kind, code), mtu, sum(Sum::ZERO, &quoted))
}

#[inline(always)]
fn ipv6(packet: &Packet, ip: usize, icmp: usize, quote: usize, error: Error) -> Option<()> {
    let len = (ICMP_LEN + size_of::<Ipv6>() + QUOTED) as u16;
    let [high, low] = len.to_be_bytes();
    packet.write(ip, 0x6000_0000_u32.to_be())?;
    packet.write(ip + 4, u32::from_ne_bytes([high, low, PROTO_ICMPV6, TTL]))?;
    // Both addresses are in the pseudo-header (RFC 8200, 8.1) and in what is quoted.
    let source: AddressWords = packet.read(quote + 8)?;
    packet.write(ip + 24, source)?;
    let mut sum = Sum::ZERO.add_all(&source).add_all(&source);
    let destination: AddressWords = packet.read(quote + 24)?;
    packet.write(ip + 8, destination)?;
    sum = sum.add_all(&destination).add_all(&destination);
    sum = sum.add(u32::from(len).to_be()).add(u32::from(PROTO_ICMPV6).to_be());
    sum = sum.add(packet.read(quote)?).add(packet.read(quote + 4)?);
    sum = sum.add(packet.read(quote + 40)?).add(packet.read(quote + 44)?);
    let (kind, mtu) = match error {
        Error::TooBig(mtu) => (2, mtu.max(MIN_MTU_V6)),
        Error::NoHopLeft => (3, 0),
    };
    message(packet, icmp, (kind, 0), mtu, sum)
}

#[inline(always)]
fn sum(sum: Sum, words: &[u32; 7]) -> Sum {
    sum.add(words[0]).add(words[1]).add(words[2]).add(words[3]).add(words[4]).add(words[5]).add(words[6])
}

#[inline(always)]
fn message(packet: &Packet, icmp: usize, (kind, code): (u8, u8), word: u32, over: Sum) -> Option<()> {
    let checksum = over.add(u16::from_ne_bytes([kind, code]).into()).add(word.to_be()).checksum();
    packet.write(icmp, u16::from_ne_bytes([kind, code]))?;
    packet.write(icmp + 2, checksum)?;
    packet.write(icmp + 4, word.to_be())
}
