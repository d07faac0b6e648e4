//! The one way out of `edge`: counts the packet under its service and verdict, and says what XDP does with it.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::programs::XdpContext;
use lb_common::Verdict;
use lb_common::abi::{Config, NO_SERVICE, counter_row};
use lb_common::verdict::Action;

use crate::{maps, sample};

/// How a packet ended.
#[must_use = "goes to finish(), which counts it"]
#[derive(Clone, Copy)]
pub(crate) struct Exit {
    /// Id of the service it was counted for, or [`NO_SERVICE`].
    pub(crate) service: u32,
    pub(crate) verdict: Verdict,
}

impl Exit {
    #[inline(always)]
    pub(crate) fn of_no_service(verdict: Verdict) -> Self {
        Self { service: NO_SERVICE, verdict }
    }
}

/// Count, perhaps log, and end.
#[inline(always)]
pub(crate) fn finish(ctx: &XdpContext, config: &Config, exit: Exit) -> u32 {
    if let Some(counter) = maps::COUNTERS.get_ptr_mut(counter_row(exit.service, exit.verdict)) {
        // SAFETY: the pointer is this CPU's element; XDP runs on it with bottom halves off, so nothing interrupts.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += (ctx.data_end() - ctx.data()) as u64;
        }
    }
    if config.log_sample != 0 {
        sample::packet(ctx, config.log_sample, exit);
    }
    match exit.verdict.action() {
        Action::Pass => xdp_action::XDP_PASS,
        Action::Redirect => xdp_action::XDP_REDIRECT,
        Action::Drop => xdp_action::XDP_DROP,
    }
}
