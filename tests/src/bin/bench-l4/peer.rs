//! The peer: the kernel's own destination NAT by nftables, a map of backends indexed by jhash.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use lb_tests::flood::{Generator, Meter, Traffic};
use lb_tests::forwarding::sysctl;
use lb_tests::lab::{VIP4, VIP6};
use lb_tests::need::find;

use crate::measure::{Figure, Load, each, median};
use crate::stage::{NEAR, Stage, near};

/// As many as the kernel's table of connections holds by default; its bound is the host's, not the lab's to change.
const FLOWS: [u32; 3] = [1, 1_000, 100_000];

pub(crate) fn measure(load: Load) -> Result<Vec<Figure>> {
    let stage = Stage::new()?;
    let edge = &stage.lab.edge;
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        sysctl(edge, key, 1)?;
    }
    // With GRO the interface polls, and so takes what XDP at its other end sends.
    edge.output("ethtool", &["-K", "wan", "gro", "on"])?;
    rules(&stage)?;
    let mut generator = Generator::open(&stage.lab.client, "eth0")?;
    let mut figures = Vec::new();
    for (v6, from, to) in [
        (false, "10.64.0.0".parse()?, SocketAddr::from((VIP4, 80))),
        (true, "fd64::".parse()?, SocketAddr::from((VIP6, 80))),
    ] {
        for flows in FLOWS {
            let traffic = Traffic { flows: Some(flows), begins: false, ..Traffic::syns(stage.mac, from, to) };
            generator.aim(&traffic)?;
            // Every flow is in the table before it is measured.
            generator.send(flows.max(1_000) * 8, Some(load.cpu))?;
            let mut rounds = Vec::new();
            for _ in 0..load.rounds {
                let meter = Meter::start(&stage.lab.backends[0], "eth0")?;
                let time = generator.send(load.frames, Some(load.cpu))?;
                let (_, arrived) = meter.read()?;
                ensure!(
                    arrived as f64 > f64::from(load.frames) * 0.9,
                    "{arrived} of {} frames came through",
                    load.frames
                );
                rounds.push(each(time, arrived));
            }
            let name = "nftables NAT, jhash map".to_owned();
            figures.push(Figure { name, v6, flows: Some(flows), program: None, path: median(rounds) });
        }
    }
    Ok(figures)
}

fn rules(stage: &Stage) -> Result<()> {
    let list = |v6: usize| {
        let one = |n| format!("{n} : {}", near(n, 8080)[v6].ip());
        (0..NEAR).map(one).collect::<Vec<_>>().join(", ")
    };
    let table = |family: &str, vip: &str, v6: usize| {
        format!(
            "table {family} balance {{\nchain prerouting {{\ntype nat hook prerouting priority dstnat;\n\
             {family} daddr {vip} tcp dport 80 dnat to jhash {family} saddr . tcp sport mod {NEAR} map {{ {} }}\n}}\n}}\n",
            list(v6)
        )
    };
    let text = table("ip", &VIP4.to_string(), 0) + &table("ip6", &VIP6.to_string(), 1);
    let mut command = stage.lab.edge.command(find("nft").context("the program `nft` (cargo xtask setup installs it)")?);
    let mut child = command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("nft's input")?.write_all(text.as_bytes())?;
    let out = child.wait_with_output()?;
    ensure!(out.status.success(), "nft: {}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}
