//! The facts of a host. A struct, so that a test can say them.

use rustix::fs::statfs;
use rustix::process::{Resource, getrlimit};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

/// `BPF_FS_MAGIC` (linux/magic.h).
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
/// Settings that are looked at.
pub(super) const SYSCTLS: [&str; 3] = ["net/core/somaxconn", "net/core/bpf_jit_enable", "net/ipv4/ip_local_port_range"];
/// Programs that keep a clock, as /proc names them (15 letters at most).
const CLOCK_KEEPERS: [&str; 6] = ["chronyd", "systemd-timesyn", "ntpd", "openntpd", "ptp4l", "phc2sys"];

/// What is known of a host.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// `uname -r`.
    pub(super) kernel: String,
    /// The kernel describes its types.
    pub(super) btf: bool,
    /// The BPF file system is where it belongs.
    pub(super) bpf_fs: bool,
    /// Effective capabilities of this process, by number (capability.h).
    pub(super) capabilities: u64,
    /// Files that a process may have open; none: any number.
    pub(super) open_files: Option<u64>,
    /// By [`SYSCTLS`]; those that there are.
    pub(super) sysctls: BTreeMap<&'static str, String>,
    /// By name.
    pub(super) interfaces: BTreeMap<String, Interface>,
    /// The clock.
    pub(super) now: Option<SystemTime>,
    /// Who keeps it.
    pub(super) clock_keeper: Option<String>,
}

/// A network interface.
#[derive(Debug, Clone, Default)]
pub(super) struct Interface {
    /// It has a carrier.
    pub(super) up: bool,
    /// Its driver; none: it has no hardware.
    pub(super) driver: Option<String>,
    /// Receive queues.
    pub(super) queues: usize,
    /// Bytes of a packet.
    pub(super) mtu: Option<u32>,
}

impl Facts {
    /// What can be seen from here.
    pub(super) fn of_this_host() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let status = read("/proc/self/status").unwrap_or_default();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let sysctl = |name: &'static str| Some((name, read(&format!("/proc/sys/{name}"))?));
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            bpf_fs: statfs("/sys/fs/bpf").is_ok_and(|found| found.f_type == BPF_FS_MAGIC),
            capabilities: effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0),
            open_files: getrlimit(Resource::Nofile).maximum,
            sysctls: SYSCTLS.into_iter().filter_map(sysctl).collect(),
            interfaces: interfaces(),
            now: Some(SystemTime::now()),
            clock_keeper: clock_keeper(),
        }
    }
}

fn interfaces() -> BTreeMap<String, Interface> {
    let entries = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let interface = |path: &Path| {
        let read = |name: &str| std::fs::read_to_string(path.join(name)).ok();
        let queues = std::fs::read_dir(path.join("queues")).into_iter().flatten().flatten();
        let driver = std::fs::read_link(path.join("device/driver")).ok();
        Interface {
            up: read("carrier").is_some_and(|carrier| carrier.trim() == "1"),
            driver: driver.and_then(|driver| Some(driver.file_name()?.to_string_lossy().into_owned())),
            queues: queues.filter(|queue| queue.file_name().to_string_lossy().starts_with("rx-")).count(),
            mtu: read("mtu").and_then(|mtu| mtu.trim().parse().ok()),
        }
    };
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), interface(&entry.path()))).collect()
}

fn clock_keeper() -> Option<String> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let names = processes.filter_map(|process| std::fs::read_to_string(process.path().join("comm")).ok());
    let mut keepers = names.map(|name| name.trim().to_owned()).filter(|name| CLOCK_KEEPERS.contains(&name.as_str()));
    keepers.next().or_else(|| Path::new("/dev/ptp_kvm").exists().then(|| "the hypervisor (ptp_kvm)".to_owned()))
}
