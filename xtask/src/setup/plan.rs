//! What is missing and how it is had: pure, from [`Machine`] to a list of steps.
//!
//! The kernel half needs a compiler with the sources of `core` and a bpf-linker of the compiler's own LLVM. Two ways:
//! a dated nightly from rustup, or the distribution's compiler where rustup reaches nothing. Either ends as the
//! rustup toolchain named `bpf`, which `lb-user/build.rs` looks for (and after it for a `nightly` with sources).

use anyhow::{Result, bail};

use super::clients;
use super::machine::{Compiler, Linker, Machine};

/// Dated, so that its LLVM (22) is one that [`LINKER`] can read; the newest nightly's need not be.
const NIGHTLY: &str = "nightly-2026-05-20";
/// bpf-linker's version, and the majors of LLVM that it can be built for.
const LINKER: &str = "0.10.3";
const LINKER_LLVM: std::ops::RangeInclusive<u32> = 20..=22;

/// A program that building, tests, demo or bench run, and the packages that have it, best first.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) packages: &'static [&'static str],
}

const fn tool(program: &'static str, packages: &'static [&'static str]) -> Tool {
    Tool { program, packages }
}

/// All of them.
pub(crate) const TOOLS: &[Tool] = &[
    tool("cc", &["gcc"]),
    tool("make", &["make"]),
    tool("ip", &["iproute2"]),
    tool("ethtool", &["ethtool"]),
    tool("nsenter", &["util-linux"]),
    tool("ping", &["iputils-ping"]),
    tool("curl", &["curl"]),
    tool("openssl", &["openssl"]),
    tool("gnutls-cli", &["gnutls-bin"]),
    tool("testssl", &["testssl.sh"]),
    tool("nginx", &["nginx-light", "nginx-core", "nginx"]),
    tool("haproxy", &["haproxy"]),
    tool("apache2", &["apache2-bin"]),
    tool("slowhttptest", &["slowhttptest"]),
    tool("h2load", &["nghttp2-client"]),
    tool("wrk", &["wrk"]),
    tool("iperf3", &["iperf3"]),
    tool("traceroute", &["traceroute"]),
    tool("dig", &["bind9-dnsutils", "dnsutils"]),
    tool("dnsmasq", &["dnsmasq-base"]),
    tool("slapd", &["slapd"]),
    tool("nft", &["nftables"]),
    // For packages, and to try them.
    tool("strip", &["binutils"]),
    tool("systemd-analyze", &["systemd"]),
];

/// Packages with a compiler and its sources.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DistributionWay {
    /// Debian's compiler for its browsers, kept new in every release.
    Web,
    /// Ubuntu's compilers by minor version of Rust 1.
    Versioned(u32),
}

impl DistributionWay {
    /// Compiler, cargo, sources.
    pub(crate) fn packages(self) -> [String; 3] {
        match self {
            Self::Web => ["rustc-web", "cargo-web", "rust-web-src"].map(String::from),
            Self::Versioned(minor) => {
                [format!("rustc-1.{minor}"), format!("cargo-1.{minor}"), format!("rust-1.{minor}-src")]
            }
        }
    }

    fn sysroot(self) -> String {
        match self {
            Self::Web => "/usr".into(),
            Self::Versioned(minor) => format!("/usr/lib/rust-1.{minor}"),
        }
    }
}

/// Best first. Below 1.88 the workspace's code is not understood; above 1.97 LLVM is too new for bpf-linker.
pub(crate) const DISTRIBUTION_WAYS: &[DistributionWay] = &{
    let mut ways = [DistributionWay::Web; 11];
    let mut i = 1;
    while i < ways.len() {
        ways[i] = DistributionWay::Versioned(98 - i as u32);
        i += 1;
    }
    ways
};

/// What is to be done, in this order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// Apt has to be asked what it offers.
    pub(crate) needs_packages: bool,
    /// What the machine builds with, once nothing is missing.
    pub(crate) summary: String,
}

/// One command.
#[derive(Debug)]
pub(crate) struct Step {
    /// Continues "would …".
    pub(crate) says: String,
    pub(crate) command: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// As root.
    pub(crate) root: bool,
    /// Setup goes on when it fails.
    pub(crate) optional: bool,
    /// When it fails, this instead of it and all after it.
    pub(crate) or_else: Option<fn(&Machine) -> Result<Plan>>,
}

impl Step {
    /// Not optional, not as root.
    pub(crate) fn new(says: String, command: &[&str]) -> Self {
        let command = command.iter().map(|word| (*word).to_string()).collect();
        Self { says, command, env: Vec::new(), root: false, optional: false, or_else: None }
    }

    /// As a person would type it.
    pub(crate) fn line(&self) -> String {
        let env = self.env.iter().map(|(key, value)| format!("{key}={}", crate::child::quote(value)));
        env.chain(self.command.iter().map(|word| crate::child::quote(word))).collect::<Vec<_>>().join(" ")
    }
}

/// The steps from here to a machine that has everything. Empty: it has.
pub(crate) fn make(machine: &Machine) -> Result<Plan> {
    let mut plan = tools(machine)?;
    if !machine.bpffs {
        let mut mount = Step::new(
            "mount: the BPF file system at /sys/fs/bpf".into(),
            &["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"],
        );
        mount.root = true;
        // A container may forbid it; building and the sockets datapath need none, and the lab says what it misses.
        mount.optional = true;
        plan.steps.push(mount);
    }
    clients::plan(machine.clients, &machine.venv, &mut plan);
    match kernel_compiler(machine) {
        Some((name, compiler)) => {
            plan.summary = format!("kernel half: rustup toolchain `{name}` with LLVM {}", compiler.llvm);
            linker(machine, compiler, &mut plan);
        }
        None if !machine.rustup => {
            bail!(
                "rustup is missing, and choosing the kernel half's compiler needs it; install it from https://rustup.rs"
            )
        }
        None => rustup_way(machine, &mut plan),
    }
    Ok(plan)
}

fn kernel_compiler(machine: &Machine) -> Option<(&'static str, Compiler)> {
    let usable = |compiler: Option<Compiler>| compiler.filter(|c| c.sources && LINKER_LLVM.contains(&c.llvm));
    let bpf = usable(machine.bpf).map(|compiler| ("bpf", compiler));
    // build.rs takes `bpf` whenever it stands, so a broken one must not be passed over for the nightly.
    bpf.or_else(|| usable(machine.nightly.filter(|_| machine.bpf.is_none())).map(|compiler| ("nightly", compiler)))
}

fn tools(machine: &Machine) -> Result<Plan> {
    let mut plan = Plan { needs_packages: !machine.missing_tools.is_empty(), ..Plan::default() };
    if machine.missing_tools.is_empty() {
        return Ok(plan);
    }
    let missing = TOOLS.iter().filter(|tool| machine.missing_tools.contains(&tool.program));
    let mut packages = Vec::new();
    for tool in missing {
        match tool.packages.iter().find(|name| machine.offered.contains_key(**name)) {
            Some(name) => packages.push((*name).to_string()),
            // An empty list is a machine that was not asked yet, or one whose lists were never fetched.
            None if machine.offered.is_empty() => packages.push(tool.packages[0].to_string()),
            None => bail!(
                "no package for the program `{}` ({} looked for); install it by hand and run `cargo xtask setup` again",
                tool.program,
                tool.packages.join(", ")
            ),
        }
    }
    install(&packages, &mut plan);
    Ok(plan)
}

/// Packages of the distribution.
pub(crate) fn install(packages: &[String], plan: &mut Plan) {
    let mut update = Step::new("refresh: the package lists (apt-get update)".into(), &["apt-get", "update", "-q"]);
    let mut add = Step::new(
        format!("install: {}", packages.join(" ")),
        &["apt-get", "install", "-q", "-y", "--no-install-recommends"],
    );
    add.command.extend(packages.iter().cloned());
    for step in [&mut update, &mut add] {
        step.root = true;
        step.env.push(("DEBIAN_FRONTEND".into(), "noninteractive".into()));
    }
    if !plan.steps.iter().any(|step| step.says == update.says) {
        plan.steps.push(update);
    }
    plan.steps.push(add);
}

fn rustup_way(machine: &Machine, plan: &mut Plan) {
    let mut fetch = Step::new(
        format!("install: Rust {NIGHTLY} with rust-src (rustup), or the distribution's compiler if it cannot be had"),
        &[
            "rustup",
            "toolchain",
            "install",
            NIGHTLY,
            "--profile",
            "minimal",
            "--component",
            "rust-src",
            "--no-self-update",
        ],
    );
    fetch.or_else = Some(distribution_way);
    plan.steps.push(fetch);
    let link = format!("rustup toolchain link bpf \"$(rustup run {NIGHTLY} rustc --print sysroot)\"");
    plan.steps.push(Step::new(format!("link: {NIGHTLY} as rustup toolchain `bpf`"), &["sh", "-c", &link]));
    let fetched = Compiler { sources: true, llvm: 22, carries_llvm: true };
    linker(machine, fetched, plan);
}

/// The compiler of the distribution, where rustup could not give one. Its linker follows when its LLVM is known.
fn distribution_way(machine: &Machine) -> Result<Plan> {
    let mut plan = Plan { needs_packages: true, ..Plan::default() };
    let offers = |way: &&DistributionWay| way.packages().iter().all(|name| machine.offered.contains_key(name));
    let Some(way) = DISTRIBUTION_WAYS.iter().find(offers) else {
        bail!(
            "no compiler for the kernel half: rustup cannot fetch {NIGHTLY}, and the distribution offers neither \
             rustc-web nor rustc-1.88 to rustc-1.97 with sources; run `apt-get update`, or mend the network, and try again"
        );
    };
    install(&way.packages(), &mut plan);
    let sysroot = way.sysroot();
    plan.steps.push(Step::new(
        format!("link: {sysroot} as rustup toolchain `bpf`"),
        &["rustup", "toolchain", "link", "bpf", &sysroot],
    ));
    Ok(plan)
}

fn linker(machine: &Machine, compiler: Compiler, plan: &mut Plan) {
    let fits = match machine.linker {
        None => false,
        Some(Linker::Borrowed) => compiler.carries_llvm,
        Some(Linker::System(major)) => major == compiler.llvm,
    };
    if fits {
        return;
    }
    let llvm = compiler.llvm;
    let mut step = Step::new(
        format!("install: bpf-linker {LINKER} for LLVM {llvm} (cargo install, a minute or two)"),
        &[
            "cargo",
            "install",
            "bpf-linker",
            "--version",
            LINKER,
            "--locked",
            "--force",
            "--no-default-features",
            "--features",
        ],
    );
    if compiler.carries_llvm {
        step.command.push(format!("rust-llvm-{llvm}"));
    } else {
        plan.needs_packages = true;
        let packages =
            [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev"), "libzstd-dev".into(), "zlib1g-dev".into()];
        install(&packages, plan);
        step.command.push(format!("llvm-{llvm}"));
        let prefix = format!("/usr/lib/llvm-{llvm}");
        step.env.push(("LLVM_PREFIX".into(), prefix.clone()));
        step.env.push((format!("LLVM_SYS_{llvm}1_PREFIX"), prefix));
    }
    plan.steps.push(step);
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
