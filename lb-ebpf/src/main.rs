//! Bailey's kernel half: mechanism, no policy.
//!
//! `edge` (XDP) meets every packet first; `steer` (sk_lookup) gives a new connection to a worker's listener. Both
//! index tables that the control plane computed; neither decides anything an operator could configure.
//!
//! On the host this crate compiles to an empty `main`, only so that the linter reads all of it.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
#![cfg_attr(not(target_arch = "bpf"), allow(dead_code, reason = "the programs have no caller on the host"))]

mod assign;
mod classify;
mod event;
mod family;
mod finish;
mod forward;
mod maps;
mod object;
mod packet;
mod sample;
mod shield;
mod steer;

use aya_ebpf::bindings::{sk_action, xdp_action};
use aya_ebpf::macros::{sk_lookup, xdp};
use aya_ebpf::programs::{SkLookupContext, XdpContext};
use finish::Ended;
use lb_common::abi::Config;

#[xdp]
fn edge(ctx: XdpContext) -> u32 {
    // The array always has its one element; without it nothing is known and nothing is touched.
    let Some(config) = maps::CONFIG.get(0) else { return xdp_action::XDP_PASS };
    let ended = packet_ended(&ctx, config);
    if config.log_sample != 0 {
        sample::packet(&ctx, config.log_sample, ended);
    }
    ended.returned()
}

/// A function of its own, so that what is logged is looked at by the verifier once, and not at each of its hundred ends.
#[inline(never)]
fn packet_ended(ctx: &XdpContext, config: &Config) -> Ended {
    let bytes = ctx.data_end() - ctx.data();
    let exit = classify::packet(ctx, config);
    finish::finish(ctx, bytes, exit)
}

#[sk_lookup]
fn steer(ctx: SkLookupContext) -> u32 {
    if let Some(config) = maps::CONFIG.get(0) {
        assign::connection(&ctx, config);
    }
    // Never SK_DROP: without an assigned socket the ordinary lookup goes on.
    sk_action::SK_PASS
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
