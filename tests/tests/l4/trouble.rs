//! What cannot be served is told, and takes nothing else with it.

use anyhow::{Result, ensure};
use lb_tests::edge::Edge;
use lb_tests::lab::{Lab, VIP4};
use lb_tests::lines::{Lines, datagram};
use lb_tests::wait::{PATIENCE, wait_ok};

use crate::site::service;

pub(crate) fn no_route() -> Result<()> {
    let lab = Lab::forwarding(1)?;
    let _server = Lines::start(&lab.backends[0], "one", &[lab.backend(0, 7000), lab.backend(0, 7001)])?;
    // Nothing leads there: the edge has no default route.
    let pool = ["192.0.2.9:7000".parse()?];
    let other = format!(
        "[service.other]\nmode = \"l4\"\nforward = \"nat\"\nprotocols = [\"udp\"]\naddresses = [\"{VIP4}:7001\"]\n\
         pool = \"other\"\n[pool.other]\nbackends = [\"{}\"]\n",
        lab.backend(0, 7001)
    );
    let edge = Edge::start(&lab, &lab.forwards("", &(service("nat", "7000", &pool, "") + &other)))?;
    wait_ok("the trouble to be told", PATIENCE, || {
        let outcome = edge.cli(&["status", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&outcome.stdout)?;
        let troubles = status["troubles"].to_string();
        ensure!(troubles.contains("192.0.2.9") && troubles.contains("route"), "{troubles}");
        ensure!(outcome.code == Some(1), "an unhealthy edge says so: {outcome:?}");
        Ok(())
    })?;
    ensure!(datagram(&lab.client, (VIP4, 7001).into())?.name == "one");
    Ok(())
}
