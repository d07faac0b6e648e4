//! The empty XDP program that measurements of `edge` stand beside: what remains is the cost of measuring.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(not(target_arch = "bpf"), allow(dead_code, reason = "the program has no caller on the host"))]

#[path = "../object.rs"]
mod object;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

#[xdp]
fn baseline(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
