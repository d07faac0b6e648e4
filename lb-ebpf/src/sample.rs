//! Debugging: one packet in so many is written to the log. Off by default; then the branch in `finish` is all it
//! costs. A line begins with the verdict's number, which the control plane writes as its name.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::info;

use crate::maps::AddressWords;
use crate::packet::{self, Ipv4, Ipv6, Packet};

/// Log this packet with a chance of one in `one_in`, which is not 0.
#[inline(never)]
pub(crate) fn packet(ctx: &XdpContext, one_in: u32, service: u32, verdict: u32) {
    // SAFETY: the helper has no precondition.
    if !(unsafe { bpf_get_prandom_u32() }).is_multiple_of(one_in) {
        return;
    }
    let packet = Packet::new(ctx);
    let bytes = packet.len() as u32;
    let (ethertype, offset) = packet::ethernet(&packet).unwrap_or_default();
    if ethertype == packet::ETHERTYPE_IPV4
        && let Some(ip) = packet.read::<Ipv4>(offset)
    {
        let (source, destination) = (u32::from_be(ip.source), u32::from_be(ip.destination));
        info!(ctx, "{} service {} bytes {} {:i} > {:i}", verdict, service, bytes, source, destination);
    } else if ethertype == packet::ETHERTYPE_IPV6
        && let Some(ip) = packet.read::<Ipv6>(offset)
    {
        let (source, destination) = (wire_bytes(ip.source), wire_bytes(ip.destination));
        info!(ctx, "{} service {} bytes {} {:i} > {:i}", verdict, service, bytes, source, destination);
    } else {
        info!(ctx, "{} service {} bytes {} ethertype {:x}", verdict, service, bytes, ethertype);
    }
}

#[inline(always)]
fn wire_bytes(words: AddressWords) -> [u8; 16] {
    // SAFETY: both are 16 plain bytes.
    unsafe { core::mem::transmute::<AddressWords, [u8; 16]>(words) }
}
