//! Debugging: one packet in so many is written to the log. Off by default; then the branch in `finish` is all it
//! costs. A line begins with the verdict's number, which the control plane writes as its name.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::info;

use crate::finish::Ended;
use crate::maps::{self, AddressWords};
use crate::packet::{self, Ipv4, Ipv6, Packet};

/// Log this packet with a chance of one in `one_in`, which is not 0.
#[inline(never)]
pub(crate) fn packet(ctx: &XdpContext, one_in: u32, ended: Ended) {
    // SAFETY: the helper has no precondition.
    if !(unsafe { bpf_get_prandom_u32() }).is_multiple_of(one_in) {
        return;
    }
    // Not known to the verifier, or it would follow all this once for each verdict.
    let (service, verdict) = (ended.service(), packet::unknown(ended.verdict() as usize) as u32);
    let packet = Packet::new(ctx);
    let bytes = packet.len() as u32;
    // One line for all, IPv4 addresses in their mapped form: each would be followed by the verifier on its own.
    let (mut source, mut destination) = ([0; 4], [0; 4]);
    if let Ok((ethertype, offset)) = packet::ethernet(&packet) {
        if ethertype == packet::ETHERTYPE_IPV4
            && let Some(ip) = packet.read::<Ipv4>(offset)
        {
            (source, destination) = (maps::mapped(ip.source), maps::mapped(ip.destination));
        } else if ethertype == packet::ETHERTYPE_IPV6
            && let Some(ip) = packet.read::<Ipv6>(offset)
        {
            (source, destination) = (ip.source, ip.destination);
        }
    }
    let (source, destination) = (wire_bytes(source), wire_bytes(destination));
    info!(ctx, "{} service {} bytes {} {:i} > {:i}", verdict, service, bytes, source, destination);
}

#[inline(always)]
fn wire_bytes(words: AddressWords) -> [u8; 16] {
    // SAFETY: both are 16 plain bytes.
    unsafe { core::mem::transmute::<AddressWords, [u8; 16]>(words) }
}
