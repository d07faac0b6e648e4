//! What the worker takes from itself before it reads a byte: a worker that a client has taken over reaches no file, starts
//! no program, touches no other process and opens no other kind of socket.
//!
//! Each layer stands alone, so that one the kernel lacks leaves the others: no privilege to gain (`no_new_privs`, neither
//! root nor capability), no file and no listener of its own (Landlock), no system call that a worker has no use for
//! (seccomp). What is missing is said, and the worker goes on: it serves no worse for it.
//!
//! All of it holds for the calling thread and those that it starts: it is for a `main` that has one thread.

mod seccomp;

use crate::api::Confinement;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr, RulesetError,
    RulesetStatus, Scope,
};
use rustix::thread::{CapabilitySet, capabilities, set_no_new_privs};
use std::io;

/// The newest Landlock that was looked at. What a kernel does not know of it is left out.
const LANDLOCK: ABI = ABI::V7;

/// Take everything, and say what came of it. Only what a newer kernel would refuse as well is an error.
pub fn confine() -> io::Result<Confinement> {
    set_no_new_privs(true)?;
    let mut missing = privileges();
    match no_files() {
        Ok(None) => {}
        Ok(Some(lack)) => missing.push(lack),
        Err(error) => missing.push(format!("files can be opened: Landlock: {error}")),
    }
    // Last: what comes before needs calls that are refused from here on.
    if let Err(error) = few_calls() {
        missing.push(format!("system calls are not filtered: {error}"));
    }
    Ok(Confinement { missing })
}

/// What is left of root.
fn privileges() -> Vec<String> {
    let mut missing = Vec::new();
    if rustix::process::geteuid().is_root() {
        missing.push("it runs as root: start bailey as root, so that it can start the worker as another user".into());
    }
    let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted | sets.inheritable);
    if !held.is_empty() {
        missing.push(format!("it has capabilities: {held:?}"));
    }
    missing
}

/// No file, no listener, no signal to others and no abstract socket of theirs. Says why, where the kernel has no Landlock.
pub fn no_files() -> Result<Option<String>, RulesetError> {
    let done = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        // Listeners are handed over. Where it connects to is the config's to say, and no list of ports.
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?
        .restrict_self()?;
    Ok(match (done.ruleset, done.landlock) {
        // In part: an older kernel, which opens no file either.
        (RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced, _) => None,
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
            Some("files can be opened: Landlock is not enabled; add `landlock` to the kernel's `lsm=` list".into())
        }
        (RulesetStatus::NotEnforced, _) => {
            Some("files can be opened: this kernel has no Landlock (CONFIG_SECURITY_LANDLOCK)".into())
        }
    })
}

/// No system call that a worker has no use for.
pub fn few_calls() -> io::Result<()> {
    seccomp::apply().map_err(|error| io::Error::other(format!("seccomp: {error}")))
}
