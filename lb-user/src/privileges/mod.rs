//! What `bailey run` keeps of root.
//!
//! It starts with whatever it is given, and before its second thread begins gives up all but what the datapath needs, for
//! itself and for whatever it will ever start: the bounding set is cut, and `no_new_privs` stands. One thread, the
//! [`launcher`], keeps what starting and ending processes of other users takes. So a file is opened by its owner's and
//! group's rights alone, also by root.
//!
//! | capability | who | for what |
//! | --- | --- | --- |
//! | `BPF`, `NET_ADMIN`, `PERFMON` | all threads, with a kernel datapath | maps and programs, XDP, routes and neighbours, sysctls of the network; the verifier's laxer checks |
//! | `NET_RAW` | all threads | checks by ICMP |
//! | `NET_BIND_SERVICE` | all threads, with `sockets` or a port of metrics below 1024 | listeners |
//! | `SETUID`, `SETGID`, `SETPCAP` | the launcher | workers and scripts run as other users, without a bounding set |
//! | `KILL` | the launcher | signals to them |

mod launcher;
#[cfg(test)]
mod tests;

pub use launcher::{signal, signal_by, signal_group, spawn, spawn_successor};

use crate::config::{Config, DatapathKind};
use crate::datapath::{DatapathError, KernelDatapath};
use rustix::process::Gid;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs, set_thread_groups,
};
use std::io;

/// What the launcher needs besides.
const LAUNCH: CapabilitySet =
    CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::SETPCAP).union(CapabilitySet::KILL);
/// What BPF in the path of packets needs.
const PACKETS: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::NET_ADMIN).union(CapabilitySet::PERFMON);
/// Ports below it are for those who have `NET_BIND_SERVICE`.
const FIRST_FREE_PORT: u16 = 1024;

/// Why privileges could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The system refuses.
    #[error("cannot give up privileges ({what}): {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// What needs more than is kept, and could not be had.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
}

/// For an edge of this config. To be called while the process has one thread.
pub fn reduce_for_edge(config: &Config) -> Result<(), PrivilegeError> {
    if config.edge.datapath != DatapathKind::Sockets {
        // The one thing that takes SYS_ADMIN, on hosts where nobody has done it.
        KernelDatapath::prepare()?;
    }
    // What is not ours to give away any more may still be given to a group that we are in.
    let readers = config.admin.read_only.iter().map(|(_, access)| access);
    let named = readers.chain([&config.admin.access]).filter_map(|access| access.group.as_deref());
    join(&named.chain([crate::admin::GROUP]).collect::<Vec<_>>())?;
    reduce(kept(config))
}

/// For `bailey decap`.
pub fn reduce_for_decap() -> Result<(), PrivilegeError> {
    reduce(PACKETS)
}

/// What every thread of an edge keeps.
fn kept(config: &Config) -> CapabilitySet {
    let sockets = config.edge.datapath == DatapathKind::Sockets;
    let low = config.admin.metrics.is_some_and(|address| address.port() < FIRST_FREE_PORT);
    let mut kept = CapabilitySet::NET_RAW;
    kept.set(PACKETS, !sockets);
    kept.set(CapabilitySet::NET_BIND_SERVICE, sockets || low);
    kept
}

fn reduce(kept: CapabilitySet) -> Result<(), PrivilegeError> {
    let error = |what| move |source: rustix::io::Errno| PrivilegeError::Io { what, source: source.into() };
    let had = capabilities(None).map_err(error("look at the capabilities"))?;
    set_no_new_privs(true).map_err(error("no_new_privs"))?;
    bound(kept | LAUNCH).map_err(error("cut the bounding set"))?;
    launcher::start(limited(had, kept | LAUNCH))
        .map_err(|source| PrivilegeError::Io { what: "start the thread that launches", source })?;
    set_capabilities(None, limited(had, kept)).map_err(error("set the capabilities"))
}

/// What of these sets is among `kept`. What may be inherited is what makes an ordinary user's successor able to bind.
fn limited(had: CapabilitySets, kept: CapabilitySet) -> CapabilitySets {
    let permitted = had.permitted & kept;
    CapabilitySets { effective: permitted, permitted, inheritable: had.inheritable & kept }
}

/// Leave these alone in the bounding set of the calling thread, and of what it starts.
fn bound(kept: CapabilitySet) -> rustix::io::Result<()> {
    if !capabilities(None)?.effective.contains(CapabilitySet::SETPCAP) {
        // No program that is started gains by it: there is nothing to lose.
        return Ok(());
    }
    // By number: the kernel may know some that the library does not.
    for one in (0..64).map(|number| CapabilitySet::from_bits_retain(1 << number)) {
        match capability_is_in_bounding_set(one) {
            Ok(true) if !kept.contains(one) => remove_capability_from_bounding_set(one)?,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Ok(())
}

/// Be in the groups of these names, where they exist and this user may.
fn join(names: &[&str]) -> Result<(), PrivilegeError> {
    let known = |name: &&str| nix::unistd::Group::from_name(name).ok().flatten();
    let wanted: Vec<_> = names.iter().filter_map(known).map(|group| Gid::from_raw(group.gid.as_raw())).collect();
    let error = |source: rustix::io::Errno| PrivilegeError::Io {
        what: "join the admin socket's groups",
        source: source.into(),
    };
    if wanted.is_empty() || !capabilities(None).map_err(error)?.effective.contains(CapabilitySet::SETGID) {
        return Ok(());
    }
    let mut groups = rustix::process::getgroups().map_err(error)?;
    groups.extend(wanted);
    groups.sort_unstable_by_key(|group| group.as_raw());
    groups.dedup();
    set_thread_groups(&groups).map_err(error)
}
