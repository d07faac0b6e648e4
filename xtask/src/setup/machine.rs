//! What this machine has. Only looks, changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::child;

use super::clients::{self, Clients};
use super::plan::{DISTRIBUTION_WAYS, TOOLS};

/// The facts that the plan is made of.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// rustup itself is there.
    pub(crate) rustup: bool,
    /// The toolchain named `bpf`, when it stands.
    pub(crate) bpf: Option<Compiler>,
    /// rustup's `nightly`, when it stands.
    pub(crate) nightly: Option<Compiler>,
    /// How bpf-linker finds LLVM, when there is one.
    pub(crate) linker: Option<Linker>,
    /// Programs of [`TOOLS`] that are missing.
    pub(crate) missing_tools: Vec<&'static str>,
    /// Clients from Python packages.
    pub(crate) clients: Clients,
    /// Where they are, or will be.
    pub(crate) venv: PathBuf,
    /// Is a BPF file system mounted at /sys/fs/bpf?
    pub(crate) bpffs: bool,
    /// Packages that the distribution offers, by name: version. Empty where there is no apt.
    pub(crate) offered: BTreeMap<String, String>,
}

/// A compiler for the kernel half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compiler {
    /// Sources of `core` are beside it.
    pub(crate) sources: bool,
    /// Major version of its LLVM.
    pub(crate) llvm: u32,
    /// LLVM's library is beside it, as in rustup's compilers, where bpf-linker can borrow it.
    pub(crate) carries_llvm: bool,
}

/// How an installed bpf-linker finds LLVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linker {
    /// It borrows the one of the rustup compiler that calls it.
    Borrowed,
    /// It is linked to the system's of this major version.
    System(u32),
}

/// What may be done as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privilege {
    Root,
    Sudo,
    None,
}

/// Look at everything the plan asks about. Apt is only asked when something is missing: it is the slow one.
pub(crate) fn look() -> Result<Machine> {
    let venv = clients::folder(&child::target()?);
    let mut machine = Machine {
        rustup: child::find("rustup").is_some(),
        bpf: compiler("bpf"),
        nightly: compiler("nightly"),
        linker: linker(),
        missing_tools: TOOLS.iter().map(|tool| tool.program).filter(|name| child::find(name).is_none()).collect(),
        clients: clients_in(&venv),
        venv,
        bpffs: bpffs_mounted(),
        offered: BTreeMap::new(),
    };
    if super::plan::make(&machine).map_or(true, |plan| plan.needs_packages) {
        machine.offered = offered();
    }
    Ok(machine)
}

/// Root, sudo without a password, or neither.
pub(crate) fn privilege() -> Privilege {
    if child::answer("id", ["-u"]).is_some_and(|uid| uid.trim() == "0") {
        Privilege::Root
    } else if child::answer("sudo", ["-n", "true"]).is_some() {
        Privilege::Sudo
    } else {
        Privilege::None
    }
}

fn compiler(toolchain: &str) -> Option<Compiler> {
    // rustup would install a missing toolchain rather than say no; the variable forbids it.
    let ask = |args: &[&str]| {
        let start = ["RUSTUP_AUTO_INSTALL=0", "rustup", "run", toolchain, "rustc"];
        child::answer("env", start.iter().chain(args))
    };
    let llvm = llvm_major(&ask(&["-vV"])?)?;
    let sysroot = ask(&["--print", "sysroot"])?;
    let sysroot = Path::new(sysroot.trim());
    let sources = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists();
    // The system's /usr/lib holds LLVM too, but not as the compiler's own.
    let carries_llvm = !sysroot.starts_with("/usr")
        && std::fs::read_dir(sysroot.join("lib"))
            .is_ok_and(|files| files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libLLVM")));
    Some(Compiler { sources, llvm, carries_llvm })
}

/// Major version from the line `LLVM version: 22.1.8` of `rustc -vV`.
fn llvm_major(version: &str) -> Option<u32> {
    version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?.split('.').next()?.parse().ok()
}

fn linker() -> Option<Linker> {
    let file = child::find("bpf-linker")?;
    Some(linked(&child::answer("ldd", [file])?))
}

/// From ldd's list: `libLLVM.so.22.1`, `libLLVM-22.so.1`, or no LLVM at all.
fn linked(libraries: &str) -> Linker {
    let major = libraries.split_whitespace().find_map(|word| {
        let rest = word.strip_prefix("libLLVM.so.").or_else(|| word.strip_prefix("libLLVM-"))?;
        rest.split('.').next()?.parse().ok()
    });
    major.map_or(Linker::Borrowed, Linker::System)
}

fn clients_in(venv: &Path) -> Clients {
    if clients::installed(venv) {
        Clients::Ready
    } else if child::answer("python3", ["-c", "import ensurepip, venv"]).is_some() {
        Clients::Missing
    } else {
        Clients::NoVenv
    }
}

fn bpffs_mounted() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').skip(1).take(2).eq(["/sys/fs/bpf", "bpf"]))
}

fn offered() -> BTreeMap<String, String> {
    let tools = TOOLS.iter().flat_map(|tool| tool.packages.iter().map(|name| (*name).to_string()));
    let ways = DISTRIBUTION_WAYS.iter().flat_map(|way| way.packages());
    let names: Vec<String> = std::iter::once("policy".into()).chain(tools).chain(ways).collect();
    child::answer("apt-cache", names).map(|text| candidates(&text)).unwrap_or_default()
}

/// Packages with a candidate, from the output of `apt-cache policy`.
fn candidates(policy: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut package = "";
    for line in policy.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
            package = name;
        } else if let Some(version) = line.trim().strip_prefix("Candidate: ")
            && version != "(none)"
        {
            found.insert(package.into(), version.into());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_is_read_from_the_compilers_answer() {
        assert_eq!(llvm_major("rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22.1.8\n"), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0\n"), None);
    }

    #[test]
    fn llvm_is_read_from_the_linkers_libraries() {
        assert_eq!(linked("\tlibLLVM.so.22.1 => /usr/lib/libLLVM.so.22.1 (0x1)\n"), Linker::System(22));
        assert_eq!(linked("\tlibLLVM-19.so.1 => /usr/lib/libLLVM-19.so.1 (0x1)\n"), Linker::System(19));
        assert_eq!(linked("\tlibc.so.6 => /lib/libc.so.6 (0x1)\n"), Linker::Borrowed);
    }

    #[test]
    fn candidates_are_read_from_apts_answer() {
        let text = "nginx-light:\n  Installed: (none)\n  Candidate: 1.22.1-9\n  Version table:\n     1.22.1-9 500\n\
                    gone:\n  Installed: (none)\n  Candidate: (none)\n";
        let found = candidates(text);
        assert_eq!(found.get("nginx-light").map(String::as_str), Some("1.22.1-9"));
        assert!(!found.contains_key("gone"));
    }
}
