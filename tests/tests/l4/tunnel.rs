//! `ipip` and `l2`: the backend has the service's address and answers the client straight.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use lb_tests::backend::Backend;
use lb_tests::edge::Edge;
use lb_tests::forwarding::{Own, verdicts};
use lb_tests::lab::{Lab, VIP4, VIP6};

use crate::site::{self, service};

pub(crate) fn v4_in_v4() -> Result<()> {
    carries("ipip", VIP4.into(), |lab| lab.backend(0, 80), Some(1480))
}

pub(crate) fn v6_in_v6() -> Result<()> {
    carries("ipip", VIP6.into(), |lab| lab.backend6(0, 80), Some(1460))
}

pub(crate) fn v4_in_v6() -> Result<()> {
    carries("ipip", VIP4.into(), |lab| lab.backend6(0, 80), Some(1460))
}

pub(crate) fn l2() -> Result<()> {
    carries("l2", VIP4.into(), |lab| lab.backend(0, 80), None)?;
    carries("l2", VIP6.into(), |lab| lab.backend6(0, 80), None)
}

/// `mtu`: what the client has been told that it can send.
fn carries(forward: &str, vip: IpAddr, backend: fn(&Lab) -> SocketAddr, mtu: Option<u32>) -> Result<()> {
    let lab = Lab::forwarding(1)?;
    let own = if forward == "l2" { Own::Loopback } else { Own::Decap };
    let _decap = lab.answers_directly(0, own)?;
    let server = Backend::start(&lab.backends[0], "one", SocketAddr::new(vip, 80))?;
    let _iperf3 = site::iperf3_server(&lab, 0, 5201)?;
    let edge = Edge::start(&lab, &lab.forwards("", &service(forward, "*", &[backend(&lab)], "")))?;
    site::transfers(&lab, SocketAddr::new(vip, 80), &server)?;
    let route = lab.client.output("ip", &["route", "get", &vip.to_string()])?;
    match mtu {
        Some(mtu) => ensure!(route.contains(&format!("mtu {mtu}")), "the client knows: {route}"),
        None => ensure!(!route.contains("mtu"), "the client was told: {route}"),
    }
    site::iperf3(&lab.client, SocketAddr::new(vip, 5201))?;
    let packets = verdicts(&edge, "web", &[&format!("forward_{forward}")])?;
    ensure!(packets >= f64::from(10 << 20) / 1500.0, "{packets} packets were forwarded");
    ensure!((verdicts(&edge, "web", &["too_big"])? > 0.0) == mtu.is_some(), "messages about the MTU");
    Ok(())
}
