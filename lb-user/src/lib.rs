//! Bailey's control plane: it owns BPF, listeners, config and agents, and parses no byte that a client sent.
#![deny(unsafe_code)]

pub mod admin;
pub mod config;
pub mod datapath;
pub mod reconcile;
pub mod supervisor;
