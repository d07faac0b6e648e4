//! What a config is checked against: the facts of this host. A struct, so that a test can say them.

use rustix::process::{Resource, getrlimit};
use rustix::thread::CpuSet;
use std::path::PathBuf;
use std::time::SystemTime;

/// Facts of the host.
#[derive(Debug, Clone)]
pub struct Host {
    /// For the validity of certificates.
    pub now: SystemTime,
    /// Network interfaces.
    pub interfaces: Vec<String>,
    /// CPUs that this process may use.
    pub cpus: Vec<u32>,
    /// Files that this process and its workers may have open each (RLIMIT_NOFILE, the hard limit).
    pub open_files: u64,
    /// Whether there is such a user.
    pub user_exists: fn(&str) -> bool,
    /// Whether there is such a group.
    pub group_exists: fn(&str) -> bool,
    /// Directory that the service manager keeps for this service.
    pub state_directory: Option<PathBuf>,
}

impl Host {
    /// This one.
    pub fn this() -> Self {
        let open_files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        Self {
            now: SystemTime::now(),
            interfaces: interfaces(),
            cpus: cpus(),
            open_files,
            user_exists,
            group_exists,
            state_directory: state_directory(),
        }
    }
}

fn interfaces() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        // bonding puts a control file among the interfaces.
        .filter(|name| name != "bonding_masters")
        .collect();
    names.sort();
    names
}

fn cpus() -> Vec<u32> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).map(|cpu| cpu as u32).collect(),
        Err(_) => vec![0],
    }
}

/// systemd's `StateDirectory=`; of several, the first (systemd.exec(5)).
fn state_directory() -> Option<PathBuf> {
    let list = std::env::var("STATE_DIRECTORY").ok()?;
    list.split(':').next().filter(|first| !first.is_empty()).map(PathBuf::from)
}

fn group_exists(name: &str) -> bool {
    matches!(nix::unistd::Group::from_name(name), Ok(Some(_)))
}

fn user_exists(name: &str) -> bool {
    matches!(nix::unistd::User::from_name(name), Ok(Some(_)))
}
