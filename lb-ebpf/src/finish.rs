//! The one way out of `edge`: counts the packet under its service and verdict, and says what XDP does with it.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::programs::XdpContext;
use lb_common::Verdict;
use lb_common::abi::{Config, NO_SERVICE, counter_row};
use lb_common::verdict::Action;

use crate::{event, maps, packet, sample};

/// How a packet ended.
#[must_use = "goes to finish(), which counts it"]
#[derive(Clone, Copy)]
pub(crate) struct Exit {
    /// Id of the service it was counted for, or [`NO_SERVICE`].
    pub(crate) service: u32,
    pub(crate) verdict: Verdict,
    /// What XDP returns for a verdict that sends: `XDP_TX` or `XDP_REDIRECT`.
    pub(crate) sent: u32,
}

impl Exit {
    #[inline(always)]
    pub(crate) fn of_no_service(verdict: Verdict) -> Self {
        Self::of(NO_SERVICE, verdict)
    }

    #[inline(always)]
    pub(crate) fn of(service: u32, verdict: Verdict) -> Self {
        Self { service, verdict, sent: xdp_action::XDP_ABORTED }
    }
}

/// Count, perhaps log, and end. `bytes` is the frame's length as it came in.
#[inline(always)]
pub(crate) fn finish(ctx: &XdpContext, config: &Config, bytes: usize, exit: Exit) -> u32 {
    if let Some(counter) = maps::COUNTERS.get_ptr_mut(counter_row(exit.service, exit.verdict)) {
        // SAFETY: the pointer is this CPU's element; XDP runs on it with bottom halves off, so nothing interrupts.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += bytes as u64;
        }
    }
    if config.log_sample != 0 {
        sample::packet(ctx, config.log_sample, exit.service, unknown(exit.verdict));
    }
    match exit.verdict.action() {
        Action::Pass => xdp_action::XDP_PASS,
        Action::Redirect => xdp_action::XDP_REDIRECT,
        Action::Drop => {
            event::dropped(ctx, config.event_interval, exit.service, unknown(exit.verdict));
            xdp_action::XDP_DROP
        }
        Action::Send => exit.sent,
    }
}

/// The verdict's number, not known to the verifier: it would follow a call once for each.
#[inline(always)]
fn unknown(verdict: Verdict) -> u32 {
    packet::unknown(verdict as usize) as u32
}
