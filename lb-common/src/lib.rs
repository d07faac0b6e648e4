//! The ABI between the kernel half (`lb-ebpf`) and the control plane (`lb-user`): keys, values, verdicts, and the
//! pure integer code that both must agree on to the bit.
//!
//! Nothing here allocates, panics on input, or knows of aya. A value of a map is plain bytes with every padding
//! byte named; `zerocopy`'s derives refuse a struct that has hidden padding.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod abi;
pub mod checksum;
pub mod flow;
pub mod rate;
pub mod select;
pub mod verdict;

pub use verdict::Verdict;
