//! UDP: an echo, and a real DNS server.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use lb_tests::edge::Edge;
use lb_tests::forwarding::Own;
use lb_tests::lab::{Lab, VIP4, VIP6};
use lb_tests::lines::{Lines, datagram};
use lb_tests::process::Process;
use lb_tests::wait::{PATIENCE, wait_ok};

use crate::site::{VIPS, client, service};

pub(crate) fn echo() -> Result<()> {
    for forward in ["nat", "ipip", "l2"] {
        let lab = Lab::forwarding(1)?;
        let pool = [lab.backend(0, 7000), lab.backend6(0, 7000)];
        let own = match forward {
            "nat" => None,
            "l2" => lab.answers_directly(0, Own::Loopback)?,
            _ => lab.answers_directly(0, Own::Decap)?,
        };
        let listen = if forward == "nat" { pool } else { VIPS.map(|vip| SocketAddr::new(vip, 7000)) };
        let _server = Lines::start(&lab.backends[0], "one", &listen)?;
        let _edge = Edge::start(&lab, &lab.forwards("", &service(forward, "7000", &pool, "")))?;
        for vip in VIPS {
            for _ in 0..20 {
                let answer = datagram(&lab.client, SocketAddr::new(vip, 7000))?;
                ensure!(answer.name == "one" && answer.peer.ip() == client(vip), "{forward}, {vip}: {answer:?}");
            }
        }
        drop(own);
    }
    Ok(())
}

pub(crate) fn dns() -> Result<()> {
    let lab = Lab::forwarding(2)?;
    let pool: Vec<SocketAddr> = (0..2).flat_map(|i| [lab.backend(i, 53), lab.backend6(i, 53)]).collect();
    let _servers = [dnsmasq(&lab, 0)?, dnsmasq(&lab, 1)?];
    let _edge = Edge::start(&lab, &lab.forwards("", &service("nat", "53", &pool, "")))?;
    for vip in [IpAddr::from(VIP4), VIP6.into()] {
        for more in [&["+notcp"][..], &["+tcp"]] {
            let at = format!("@{vip}");
            let words = [&[&at, "www.bailey.test", "A", "+short", "+time=2", "+tries=1"], more].concat();
            wait_ok("the first answer", PATIENCE, || lab.client.output("dig", &words))?;
            for _ in 0..10 {
                let answer = lab.client.output("dig", &words)?;
                ensure!(answer.trim() == "192.0.2.7", "{vip} {more:?}: {answer:?}");
            }
        }
    }
    Ok(())
}

fn dnsmasq(lab: &Lab, i: usize) -> Result<Process> {
    let listen = |address: SocketAddr| format!("--listen-address={}", address.ip());
    let mut command = lab.backends[i].command("dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"]);
    command.args(["--bind-interfaces", "--pid-file=", "--host-record=www.bailey.test,192.0.2.7"]);
    command.args([listen(lab.backend(i as u8, 53)), listen(lab.backend6(i as u8, 53))]);
    Process::start(&format!("dnsmasq{i}"), lab.folder(), &mut command)
}
