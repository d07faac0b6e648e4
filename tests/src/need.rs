//! What a lab needs of the machine. A test whose need is not met is skipped and says which.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Kinds of test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// An ordinary user.
    Nothing,
    /// Root, network namespaces, BPF, the tools of `cargo xtask setup`.
    Lab,
}

impl Need {
    /// The first thing that is missing.
    pub fn missing(self) -> Option<String> {
        if self == Need::Nothing {
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            return Some("root (network namespaces and BPF need it)".into());
        }
        if !is_bpffs(Path::new("/sys/fs/bpf")) {
            return Some("the BPF file system at /sys/fs/bpf (cargo xtask setup mounts it)".into());
        }
        ["ip", "ethtool", "nsenter", "unshare", "curl", "openssl", "nginx", "ping"]
            .into_iter()
            .chain(["iperf3", "traceroute", "dig", "dnsmasq"])
            .find(|tool| find(tool).is_none())
            .map(|tool| format!("the program `{tool}` (cargo xtask setup installs it)"))
            .or_else(|| crate::netns::try_namespaces().err().map(|error| format!("network namespaces: {error:#}")))
    }
}

/// Where a program of this name is.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// A program of this workspace, built in the same target directory as the program that runs.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("where the running program is")?;
    let mut folder = own.parent().context("a program without a folder")?;
    if folder.ends_with("deps") {
        folder = folder.parent().context("a target directory without a parent")?;
    }
    let file = folder.join(name);
    if !file.is_file() {
        bail!(
            "{} is not built: run `cargo build --workspace --exclude lb-ebpf` (`cargo xtask test` does)",
            file.display()
        );
    }
    Ok(file)
}

fn is_bpffs(path: &Path) -> bool {
    const BPF_FS_MAGIC: u64 = 0xcafe_4a11; // linux/magic.h
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type as u64 & 0xffff_ffff == BPF_FS_MAGIC)
}
