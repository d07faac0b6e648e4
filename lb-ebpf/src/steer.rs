//! From a flow's hash to its worker's CPU. `assign` takes the same slots from the same hash, so that packet, socket
//! and worker thread meet on one CPU.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use lb_common::Verdict;
use lb_common::abi::{Config, STEERING_RSS};

use crate::maps;

enum Placed {
    /// Where the worker is, or where the NIC put it.
    Here,
    Redirected,
    Nowhere,
}

/// Send a packet of a service's flow to its worker.
#[inline(always)]
pub(crate) fn packet(config: &Config, hash: u32) -> Verdict {
    if config.steering == STEERING_RSS {
        return Verdict::SteerRss;
    }
    match place(hash) {
        Placed::Here => Verdict::SteerLocal,
        Placed::Redirected => Verdict::SteerRedirect,
        Placed::Nowhere => Verdict::NoWorker,
    }
}

/// Send an ICMP error to where the flow is that it is about. In `rss` only the NIC knows that.
#[inline(always)]
pub(crate) fn icmp_error(config: &Config, hash: u32) -> Verdict {
    if config.steering == STEERING_RSS {
        return Verdict::IcmpErrorLocal;
    }
    match place(hash) {
        Placed::Here => Verdict::IcmpErrorLocal,
        Placed::Redirected => Verdict::IcmpErrorSteer,
        Placed::Nowhere => Verdict::NoWorker,
    }
}

#[inline(always)]
fn place(hash: u32) -> Placed {
    let Some(worker) = maps::slot_worker(hash).and_then(|worker| maps::WORKERS.get(worker)) else {
        return Placed::Nowhere;
    };
    // SAFETY: the helper has no precondition.
    if worker.cpu == unsafe { bpf_get_smp_processor_id() } {
        return Placed::Here;
    }
    // The flags are the action when the map has no such CPU.
    match maps::CPUS.redirect(worker.cpu, u64::from(xdp_action::XDP_PASS)) {
        Ok(_) => Placed::Redirected,
        Err(_) => Placed::Nowhere,
    }
}
