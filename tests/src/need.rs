//! What a lab needs of the machine. A test whose need is not met is skipped and says which.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Kinds of test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// An ordinary user.
    Nothing,
    /// An ordinary user with these programs.
    Programs(&'static [&'static str]),
    /// An ordinary user with this module in the Python environment of `cargo xtask setup`.
    Python(&'static str),
    /// Root, network namespaces, BPF, the tools of `cargo xtask setup`.
    Lab,
    /// Root, overlays, Debian's package tools, systemd.
    Room,
}

impl Need {
    /// The first thing that is missing.
    pub fn missing(self) -> Option<String> {
        let absent = |tools: &[&str]| {
            let tool = tools.iter().find(|tool| find(tool).is_none())?;
            Some(format!("the program `{tool}` (cargo xtask setup installs it)"))
        };
        match self {
            Need::Nothing => return None,
            Need::Programs(tools) => return absent(tools),
            Need::Python(module) => {
                return (!has_module(module)).then(|| format!("Python's `{module}` (cargo xtask setup installs it)"));
            }
            Need::Room => return missing_for_room().or_else(|| absent(&["dpkg-deb", "deb-systemd-helper", "unshare"])),
            Need::Lab => {}
        }
        if !rustix::process::geteuid().is_root() {
            return Some("root (network namespaces and BPF need it)".into());
        }
        if !is_bpffs(Path::new("/sys/fs/bpf")) {
            return Some("the BPF file system at /sys/fs/bpf (cargo xtask setup mounts it)".into());
        }
        absent(&["ip", "ethtool", "nsenter", "unshare", "curl", "openssl", "nginx", "ping"])
            .or_else(|| absent(&["iperf3", "traceroute", "dig", "dnsmasq"]))
            .or_else(|| crate::netns::try_namespaces().err().map(|error| format!("network namespaces: {error:#}")))
    }
}

fn missing_for_room() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("root (a room is made of mounts)".into());
    }
    let kinds = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if let Some(kind) =
        ["overlay", "cgroup2", "bpf"].iter().find(|kind| !kinds.lines().any(|line| line.ends_with(*kind)))
    {
        return Some(format!("file systems of the kind `{kind}`"));
    }
    (!Path::new(crate::room::SYSTEMD).is_file()).then(|| "systemd (apt install systemd)".into())
}

/// Where a program of this name is.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain(venv().ok().map(|venv| venv.join("bin")))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

fn has_module(name: &str) -> bool {
    let pythons = venv().and_then(|venv| Ok(std::fs::read_dir(venv.join("lib"))?));
    pythons.into_iter().flatten().flatten().any(|python| python.path().join("site-packages").join(name).is_dir())
}

/// The Python environment that `cargo xtask setup` makes in the target directory.
pub fn venv() -> Result<PathBuf> {
    Ok(built()?.parent().context("a profile's directory without a target directory")?.join("venv"))
}

/// A program of this workspace, built in the same target directory as the program that runs.
pub fn binary(name: &str) -> Result<PathBuf> {
    let file = built()?.join(name);
    if !file.is_file() {
        bail!(
            "{} is not built: run `cargo build --workspace --exclude lb-ebpf` (`cargo xtask test` does)",
            file.display()
        );
    }
    Ok(file)
}

/// Where this profile's programs are.
fn built() -> Result<PathBuf> {
    let own = std::env::current_exe().context("where the running program is")?;
    let folder = own.parent().context("a program without a folder")?;
    let above = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    Ok(above.context("a target directory without a parent")?.to_path_buf())
}

fn is_bpffs(path: &Path) -> bool {
    const BPF_FS_MAGIC: u64 = 0xcafe_4a11; // linux/magic.h
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type as u64 & 0xffff_ffff == BPF_FS_MAGIC)
}
