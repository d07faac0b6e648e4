//! Builds the kernel half (`lb-ebpf`) and leaves its objects in `OUT_DIR`, where `datapath` includes them from.
//!
//! `core` for the BPF target is built from source, so a compiler with its own sources is needed: nightly with
//! rust-src, or a distribution's compiler linked as the toolchain `bpf`. `cargo xtask setup` brings either.

use std::path::{Path, PathBuf};
use std::process::Command;

use aya_build::{Package, Toolchain};

/// Name under which `cargo xtask setup` links the distribution's compiler.
const LINKED_TOOLCHAIN: &str = "bpf";
/// The programs of `lb-ebpf`.
const OBJECTS: [&str; 4] = ["bailey-baseline", "bailey-decap", "bailey-edge", "bailey-flood"];

fn main() {
    if let Err(problem) = build() {
        // One line: cargo prints it as an error of this crate and stops.
        println!("cargo::error={}", problem.replace('\n', " "));
    }
}

fn build() -> Result<(), String> {
    let manifest = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let root = manifest.parent().ok_or("this crate has no workspace around it")?;
    for input in ["lb-ebpf", "lb-common", "Cargo.toml", "Cargo.lock", "lb-user/build.rs"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }

    println!("cargo::rerun-if-env-changed=RUSTC_WORKSPACE_WRAPPER");
    if only_read() {
        let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
        return OBJECTS
            .iter()
            .try_for_each(|object| std::fs::write(out.join(object), []))
            .map_err(|e| format!("cannot write to {}: {e}", out.display()));
    }
    if which("bpf-linker").is_none() {
        return Err(missing("bpf-linker"));
    }
    let toolchain = toolchain().ok_or_else(|| missing("a Rust compiler with its sources (rust-src)"))?;
    if let Toolchain::Custom(_) = toolchain {
        // SAFETY: a build script's main thread, before any other thread is started.
        unsafe { std::env::set_var("RUSTC_BOOTSTRAP", "1") };
    }
    let source = root.join("lb-ebpf");
    let source = source.to_str().ok_or("the path of this workspace is not UTF-8")?;
    aya_build::build_ebpf([Package { name: "lb-ebpf", root_dir: source, ..Package::default() }], toolchain)
        .map_err(|e| format!("the kernel half (lb-ebpf) does not build: {e:#}; see the warnings above"))
}

/// Clippy keeps what it makes apart from what is built, and runs nothing of it: it gets objects without a byte, and nobody
/// waits for real ones twice.
fn only_read() -> bool {
    let wrapper = std::env::var_os("RUSTC_WORKSPACE_WRAPPER").map(PathBuf::from);
    wrapper.is_some_and(|path| path.file_stem().is_some_and(|name| name == "clippy-driver"))
}

fn missing(what: &str) -> String {
    format!("the kernel half needs {what}, which this machine does not have; run: cargo xtask setup")
}

/// The linked toolchain, which setup chose to fit the bpf-linker; else nightly where it has its sources; without rustup,
/// the compiler there is. A nightly of another LLVM than the linker's writes objects that it cannot read.
fn toolchain() -> Option<Toolchain<'static>> {
    if which("rustup").is_none() {
        return has_sources(Command::new("rustc").args(["--print", "sysroot"]))
            .then_some(Toolchain::Custom(LINKED_TOOLCHAIN));
    }
    let candidates = [(LINKED_TOOLCHAIN, Toolchain::Custom(LINKED_TOOLCHAIN)), ("nightly", Toolchain::Nightly)];
    candidates
        .into_iter()
        .find(|(name, _)| has_sources(Command::new("rustup").args(["run", name, "rustc", "--print", "sysroot"])))
        .map(|(_, toolchain)| toolchain)
}

fn has_sources(print_sysroot: &mut Command) -> bool {
    // cargo names its own compiler in these; the one asked here is another.
    let output = print_sysroot.env_remove("RUSTC").env_remove("RUSTC_WORKSPACE_WRAPPER").output();
    let Ok(output) = output else { return false };
    let sysroot = String::from_utf8_lossy(&output.stdout);
    output.status.success() && Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs").exists()
}

fn which(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}
