//! Which backend: hash, slot, and the memory of flows in slots that have moved.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use lb_common::Verdict;
use lb_common::abi::{self, BACKEND_ALIVE, BackendValue, FlowValue, ForwardValue, ServiceValue};
use lb_common::select::{self, Memory, Opening, Reason, Slot};

use super::maps::{BACKEND_COUNTERS, BACKENDS, FLOW_COUNTERS, FLOWS, FORWARD, FlowKeyWords, RINGS};
use crate::classify::Datagram;
use crate::family::Family;
use crate::maps::AddressWords;

/// A remembered flow's time is written again after so long, nanoseconds.
const SEEN_EVERY: u64 = 1_000_000_000;

/// The backend of a packet.
pub(super) struct Chosen {
    pub(super) number: u32,
    pub(super) backend: &'static BackendValue,
    pub(super) forward: &'static ForwardValue,
    /// Hash of the whole flow, for what must differ between flows.
    pub(super) entropy: u32,
    /// Whether a flow begins.
    begins: bool,
}

struct Place {
    forward: &'static ForwardValue,
    ring: u32,
    index: u32,
    slot: Slot,
    entropy: u32,
}

/// For a packet that is part of its flow: what it says is remembered where it must be.
#[inline(always)]
pub(super) fn with_memory<F: Family>(
    datagram: &Datagram<'_>,
    service: &ServiceValue,
    ports: (u16, u16),
    protocol: u8,
    opening: Opening,
) -> Result<Chosen, Verdict> {
    let place = place::<F>(datagram, service, ports, protocol)?;
    let mut begins = matches!(opening, Opening::Begins);
    let mut number = place.slot.current;
    if !place.slot.is_settled() {
        let both = u32::from(ports.0.to_be()) | u32::from(ports.1.to_be()) << 16;
        let flow = u32::from(protocol) | encoded(opening) << 8;
        let answer = unsettled(service.id, &place, [&datagram.source, &datagram.destination], both, flow);
        number = answer as u16;
        begins |= answer & BEGINS != 0;
    }
    chosen(number.into(), &place, begins)
}

/// For what is only about a flow, or has no ports.
#[inline(always)]
pub(super) fn without_memory<F: Family>(
    datagram: &Datagram<'_>,
    service: &ServiceValue,
    ports: (u16, u16),
    protocol: u8,
) -> Result<Chosen, Verdict> {
    let place = place::<F>(datagram, service, ports, protocol)?;
    let number = if place.slot.is_settled() {
        place.slot.current
    } else {
        select::unsettled(place.slot, None, Opening::Goes, alive).backend
    };
    chosen(number.into(), &place, false)
}

/// Count what was sent to a backend.
#[inline(always)]
pub(super) fn count(chosen: &Chosen, bytes: usize) {
    if let Some(counter) = BACKEND_COUNTERS.get_ptr_mut(chosen.number) {
        // SAFETY: the pointer is this CPU's element; XDP runs on it with bottom halves off, so nothing interrupts.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += bytes as u64;
            (*counter).flows += u64::from(chosen.begins);
        }
    }
}

#[inline(always)]
fn place<F: Family>(
    datagram: &Datagram<'_>,
    service: &ServiceValue,
    ports: (u16, u16),
    protocol: u8,
) -> Result<Place, Verdict> {
    let forward = FORWARD.get(service.id).ok_or(Verdict::NoBackend)?;
    let seed = datagram.config.forward_seed;
    let (source, destination) = (&datagram.source, &datagram.destination);
    let hash = F::forward_hash(seed, service.hash, source, destination, ports, protocol);
    let index = select::slot_of(hash, forward.slots);
    let ring = abi::ring(service.id, F::V6);
    let word = *RINGS.get_value(ring, &index).ok_or(Verdict::NoBackend)?;
    let entropy = if service.hash == abi::HASH_FLOW {
        hash
    } else {
        F::forward_hash(seed, abi::HASH_FLOW, source, destination, ports, protocol)
    };
    Ok(Place { forward, ring, index, slot: Slot::from_word(word), entropy })
}

#[inline(always)]
fn chosen(number: u32, place: &Place, begins: bool) -> Result<Chosen, Verdict> {
    if number == u32::from(select::NONE) {
        return Err(Verdict::NoBackend);
    }
    let backend = BACKENDS.get(number).ok_or(Verdict::NoBackend)?;
    Ok(Chosen { number, backend, forward: place.forward, entropy: place.entropy, begins })
}

#[inline(always)]
fn alive(number: select::Backend) -> bool {
    BACKENDS.get(number.into()).is_some_and(|backend| backend.flags & BACKEND_ALIVE != 0)
}

/// Set in the answer of [`unsettled`] when a flow begins that did not say so.
const BEGINS: u32 = 1 << 16;

#[inline(always)]
fn encoded(opening: Opening) -> u32 {
    match opening {
        Opening::Begins => 0,
        Opening::Goes => 1,
        Opening::Unsaid | Opening::UnsaidButNew => 2,
    }
}

/// The backend in a slot that is not settled. A function of its own, as few packets come here and it takes stack. `ports`
/// are both as they stand in a packet; `flow` is the protocol, and above it what the packet says.
#[inline(never)]
fn unsettled(service: u32, place: &Place, addresses: [&AddressWords; 2], ports: u32, flow: u32) -> u32 {
    let [s, d] = addresses;
    let key: FlowKeyWords = [s[0], s[1], s[2], s[3], d[0], d[1], d[2], d[3], ports, flow & 0xff];
    let key = &key;
    let opening = match flow >> 8 {
        0 => Opening::Begins,
        1 => Opening::Goes,
        _ => Opening::Unsaid,
    };
    // SAFETY: the helper has no precondition.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let unsaid = matches!(opening, Opening::Unsaid);
    let opening = match opening {
        Opening::Unsaid if now >= place.forward.udp_new_after => Opening::UnsaidButNew,
        opening => opening,
    };
    let known = FLOWS.get_ptr_mut(key);
    let remembered = known.and_then(|known| {
        // SAFETY: an entry of the map; one that is taken for another flow meanwhile gives that flow's values.
        let (backend, seen) = unsafe { ((*known).backend, (*known).seen) };
        let over = unsaid && seen.saturating_add(place.forward.udp_idle) <= now;
        (!over).then_some(backend as select::Backend)
    });
    let choice = select::unsettled(place.slot, remembered, opening, alive);
    match choice.memory {
        Memory::Leave => {}
        Memory::Refresh => {
            if let Some(known) = known {
                // SAFETY: as above; aligned words are written whole.
                unsafe {
                    if now.wrapping_sub((*known).seen) > SEEN_EVERY {
                        (*known).seen = now;
                    }
                }
            }
        }
        Memory::Remember => {
            let value =
                FlowValue { seen: now, backend: choice.backend.into(), ring: place.ring, slot: place.index, pad: 0 };
            let kept = FLOWS.insert(key, value, 0).is_ok();
            flow_counter(service, |counter| {
                counter.remembered += u64::from(kept && known.is_none());
                counter.not_remembered += u64::from(!kept);
            });
        }
        Memory::Forget => {
            if FLOWS.remove(key).is_ok() {
                flow_counter(service, |counter| counter.forgotten += 1);
            }
        }
    }
    if matches!(choice.reason, Reason::Dead) {
        flow_counter(service, |counter| counter.dead += 1);
    }
    let begins = unsaid && matches!(choice.reason, Reason::Moved) && matches!(choice.memory, Memory::Remember);
    u32::from(choice.backend) | if begins { BEGINS } else { 0 }
}

#[inline(always)]
fn flow_counter(service: u32, change: impl FnOnce(&mut abi::FlowCounter)) {
    if let Some(counter) = FLOW_COUNTERS.get_ptr_mut(service) {
        // SAFETY: the pointer is this CPU's element; XDP runs on it with bottom halves off, so nothing interrupts.
        change(unsafe { &mut *counter });
    }
}
