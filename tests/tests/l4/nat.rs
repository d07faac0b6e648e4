//! `nat`: the destination is rewritten, the client is seen, replies come back through the edge.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lb_tests::backend::Backend;
use lb_tests::edge::Edge;
use lb_tests::forwarding::verdicts;
use lb_tests::lab::Lab;
use lb_tests::lines::{Connections, Lines, datagram};
use lb_tests::wait::PATIENCE;

use crate::site::{self, VIPS, client, service};

pub(crate) fn transfers() -> Result<()> {
    let lab = Lab::forwarding(1)?;
    let addresses = [lab.backend(0, 8080), lab.backend6(0, 8080)];
    let edge = Edge::start(&lab, &lab.forwards("", &service("nat", "80", &addresses, "")))?;
    for (vip, address) in VIPS.into_iter().zip(addresses) {
        let backend = Backend::start(&lab.backends[0], "one", address)?;
        site::transfers(&lab, SocketAddr::new(vip, 80), &backend)?;
    }
    // Acknowledgements of downloads one way, those of uploads the other.
    for verdict in ["forward_nat", "reply_nat"] {
        let packets = verdicts(&edge, "web", &[verdict])?;
        ensure!(packets >= 2.0 * f64::from(10 << 20) / 1500.0, "{packets} packets were {verdict}");
    }
    Ok(())
}

pub(crate) fn all_ports() -> Result<()> {
    let lab = Lab::forwarding(1)?;
    let pool = [lab.backend(0, 7001), lab.backend6(0, 7001)];
    let both = |port| [lab.backend(0, port), lab.backend6(0, port)];
    let _low = Lines::start(&lab.backends[0], "low", &both(7001))?;
    let _high = Lines::start(&lab.backends[0], "high", &both(54321))?;
    let _edge = Edge::start(&lab, &lab.forwards("", &service("nat", "*", &pool, "")))?;
    for vip in VIPS {
        for (port, name) in [(7001, "low"), (54321, "high")] {
            let to = SocketAddr::new(vip, port);
            let mut connections = Connections::open(&lab.client, to, 1)?;
            let answers = connections.ask(PATIENCE).into_iter().chain([Some(datagram(&lab.client, to)?)]);
            for answer in answers {
                let answer = answer.with_context(|| format!("no answer of {to}"))?;
                ensure!(answer.name == name && answer.peer.ip() == client(vip), "{to}: {answer:?}");
            }
        }
    }
    Ok(())
}

pub(crate) fn iperf3() -> Result<()> {
    let lab = Lab::forwarding(1)?;
    let pool = [lab.backend(0, 5201), lab.backend6(0, 5201)];
    let _server = site::iperf3_server(&lab, 0, 5201)?;
    let _edge = Edge::start(&lab, &lab.forwards("", &service("nat", "5201", &pool, "")))?;
    VIPS.into_iter().try_for_each(|vip| site::iperf3(&lab.client, SocketAddr::new(vip, 5201)))
}
