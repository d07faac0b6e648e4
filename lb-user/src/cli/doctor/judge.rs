//! What a host's facts mean for an edge. Pure.

use super::Finding;
use super::host::Facts;
use crate::config::{DatapathKind, Edge};
use std::time::{Duration, SystemTime};

/// The oldest kernel that has all that the programs use.
const KERNEL: (u32, u32) = (5, 18);
/// Capabilities that the kernel datapaths need, with their numbers (linux/capability.h).
const CAPABILITIES: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (39, "CAP_BPF")];
/// Fewer open files are few for an edge: each connection is one, with its backend's two.
const FILES: u64 = 65_536;
/// Fewer waiting connections are lost in a burst.
const WAITING: u32 = 4096;
/// Fewer ports are few for connections to one backend.
const PORTS: u32 = 16_384;
/// The largest packet for which drivers have XDP without a program that takes it in parts: a page, less what the driver
/// keeps for itself.
const XDP_MTU: u32 = 3498;
/// No clock that is right shows less: the first of January 2026.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// What is thought of the host, for this edge where there is one.
pub(super) fn findings(facts: &Facts, edge: Option<&Edge>) -> Vec<Finding> {
    let wants_kernel = edge.is_none_or(|edge| edge.datapath != DatapathKind::Sockets);
    let mut all = vec![kernel(facts, wants_kernel)];
    if wants_kernel {
        all.push(bpf(facts));
        all.push(capabilities(facts));
    }
    all.push(files(facts));
    all.extend(sysctls(facts, wants_kernel));
    all.extend(edge.into_iter().flat_map(|edge| interfaces(facts, edge)));
    all.push(clock(facts));
    all
}

fn kernel(facts: &Facts, wanted: bool) -> Finding {
    const CHECK: &str = "kernel";
    let mut numbers = facts.kernel.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let found = format!("Linux {}", facts.kernel);
    match (version >= KERNEL, wanted) {
        (true, _) => Finding::ok(CHECK, found),
        (false, true) => Finding::fail(CHECK, found, "5.18 or later is needed, or datapath = \"sockets\" under [edge]"),
        (false, false) => Finding::warn(CHECK, found, "5.18 or later is what Bailey is tested with"),
    }
}

fn bpf(facts: &Facts) -> Finding {
    const CHECK: &str = "BPF";
    match (facts.btf, facts.bpf_fs) {
        (false, _) => Finding::fail(
            CHECK,
            "/sys/kernel/btf/vmlinux is missing",
            "use a kernel with CONFIG_DEBUG_INFO_BTF=y (those of distributions have it)",
        ),
        (true, false) => Finding::warn(
            CHECK,
            "no BPF file system at /sys/fs/bpf",
            "bailey run mounts it when it may; or: mount -t bpf bpf /sys/fs/bpf",
        ),
        (true, true) => Finding::ok(CHECK, "types of the kernel known, file system mounted"),
    }
}

fn capabilities(facts: &Facts) -> Finding {
    const CHECK: &str = "capabilities";
    let missing = CAPABILITIES.iter().filter(|(number, _)| facts.capabilities & (1 << number) == 0);
    let missing: Vec<&str> = missing.map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Finding::ok(CHECK, "all that a kernel datapath needs");
    }
    let next = "look again as who runs the daemon: sudo bailey doctor; datapath = \"sockets\" needs none of them";
    Finding::fail(CHECK, format!("this user lacks {}", missing.join(", ")), next)
}

fn files(facts: &Facts) -> Finding {
    const CHECK: &str = "open files";
    match facts.open_files {
        Some(files) if files < FILES => Finding::warn(
            CHECK,
            format!("{files} at the most"),
            format!("raise it to {FILES} or more: LimitNOFILE= in the unit, ulimit -Hn in a shell"),
        ),
        Some(files) => Finding::ok(CHECK, format!("{files} at the most")),
        None => Finding::ok(CHECK, "any number"),
    }
}

fn sysctls(facts: &Facts, wants_kernel: bool) -> Vec<Finding> {
    const CHECK: &str = "settings";
    let of = |name: &str| facts.sysctls.get(name).map(String::as_str);
    let mut found = Vec::new();
    let mut wrong = |name: &str, value: &str, why: &str, better: &str| {
        let name = name.replace('/', ".");
        found.push(Finding::warn(CHECK, format!("{name} = {value}: {why}"), format!("sysctl -w '{name}={better}'")));
    };
    if let Some((name, value)) = of("net/core/somaxconn").map(|value| ("net/core/somaxconn", value))
        && value.parse().is_ok_and(|waiting: u32| waiting < WAITING)
    {
        wrong(name, value, "connections of a burst are lost that no worker has taken yet", "65535");
    }
    if let Some(value) = of("net/core/bpf_jit_enable").filter(|value| wants_kernel && *value == "0") {
        wrong("net/core/bpf_jit_enable", value, "BPF programs are interpreted, which is slow", "1");
    }
    if let Some(value) = of("net/ipv4/ip_local_port_range") {
        let ports: Vec<u32> = value.split_whitespace().filter_map(|port| port.parse().ok()).collect();
        if let [first, last] = ports[..]
            && last.saturating_sub(first) < PORTS
        {
            let value = format!("{first} {last}");
            wrong("net/ipv4/ip_local_port_range", &value, "few connections to one backend", "10240 65535");
        }
    }
    if found.is_empty() {
        found.push(Finding::ok(CHECK, "sockets' queues, ports, compiler of BPF"));
    }
    found
}

fn interfaces(facts: &Facts, edge: &Edge) -> Vec<Finding> {
    const CHECK: &str = "interface";
    let native = edge.datapath == DatapathKind::Native;
    let judged = edge.interfaces.iter().map(|name| {
        let Some(interface) = facts.interfaces.get(name) else {
            return Finding::fail(CHECK, format!("{name} is missing"), "see what there is: ip link");
        };
        let driver = interface.driver.as_deref().unwrap_or("no hardware");
        let found = format!("{name}: {driver}, {} receive queues", interface.queues);
        match interface.mtu {
            _ if !interface.up => Finding::warn(CHECK, format!("{name} is down"), format!("ip link set {name} up")),
            Some(mtu) if native && mtu > XDP_MTU => Finding::warn(
                CHECK,
                format!("{found}, MTU {mtu}"),
                "many drivers have no XDP at this MTU, which then runs in the stack, slower: bailey status says so",
            ),
            _ if interface.queues < edge.cpus.len() => Finding::warn(
                CHECK,
                format!("{found} for {} workers", edge.cpus.len()),
                "frames are moved between CPUs; more queues, where the NIC has them: ethtool -L IF combined N",
            ),
            _ => Finding::ok(CHECK, found),
        }
    });
    judged.collect()
}

fn clock(facts: &Facts) -> Finding {
    const CHECK: &str = "clock";
    let early = facts.now.is_none_or(|now| now < SystemTime::UNIX_EPOCH + EPOCH);
    match &facts.clock_keeper {
        _ if early => Finding::fail(
            CHECK,
            "it shows a time before this release",
            "set it: certificates, tickets and staples are judged by it",
        ),
        None => Finding::warn(
            CHECK,
            "nobody is seen to keep it",
            "run chrony or systemd-timesyncd: certificates, tickets and staples are judged by it",
        ),
        Some(keeper) => Finding::ok(CHECK, format!("kept by {keeper}")),
    }
}
