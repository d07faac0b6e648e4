//! The shield in front of a forwarded service: a deny list that is changed live, and limits.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::edge::Edge;
use lb_tests::forwarding::verdicts;
use lb_tests::lab::{CLIENT4, Lab, VIP4};
use lb_tests::lines::{Lines, datagram};
use lb_tests::need::binary;
use lb_tests::process::Process;
use lb_tests::wait::{PATIENCE, wait_ok};

use crate::site::service;

const PORT: u16 = 7000;

pub(crate) fn deny() -> Result<()> {
    let lab = Lab::forwarding(1)?;
    let pool = [lab.backend(0, PORT)];
    let _server = Lines::start(&lab.backends[0], "one", &pool)?;
    let edge = Edge::start(&lab, &lab.forwards("", &service("nat", "7000", &pool, "")))?;
    let vip = SocketAddr::from((VIP4, PORT));
    wait_ok("an answer", PATIENCE, || datagram(&lab.client, vip))?;
    let mut command = std::process::Command::new(binary("bailey")?);
    command.arg("--socket").arg(lab.folder().join("admin.sock")).arg("watch");
    let watch = Process::start("watch", lab.folder(), &mut command)?;

    let prefix = format!("{CLIENT4}/32");
    edge.done(&["deny", "add", &prefix])?;
    ensure!(edge.done(&["deny", "list"])?.contains(&prefix));
    wait_ok("a drop to be told", PATIENCE, || {
        let error = lab.client.run(|| Ok(TcpStream::connect_timeout(&vip, Duration::from_millis(100)).err()))?;
        ensure!(error.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut), "a denied client got through");
        let told = watch.log();
        let line = told.lines().find(|line| line.contains("denied"));
        let words = [CLIENT4.to_string(), vip.to_string(), "web".into()];
        ensure!(line.is_some_and(|line| words.iter().all(|word| line.contains(word))), "{told:?}");
        Ok(())
    })?;
    ensure!(verdicts(&edge, "web", &["denied"])? >= 1.0);
    edge.done(&["deny", "remove", &prefix])?;
    ensure!(datagram(&lab.client, vip)?.name == "one");
    Ok(())
}

pub(crate) fn rate() -> Result<()> {
    const BURST: usize = 5;
    let lab = Lab::forwarding(1)?;
    let pool = [lab.backend(0, PORT)];
    let _server = Lines::start(&lab.backends[0], "one", &pool)?;
    let limits = "[service.web.shield]\nsource_connections = { rate = 1, burst = 5 }\n";
    let edge = Edge::start(&lab, &lab.forwards("", &service("nat", "7000", &pool, limits)))?;
    let vip = SocketAddr::from((VIP4, PORT));
    wait_ok("an answer", PATIENCE, || datagram(&lab.client, vip))?;
    let connect = || TcpStream::connect_timeout(&vip, Duration::from_millis(100)).is_ok();
    let open = lab.client.run(|| Ok((0..20).filter(|_| connect()).count()))?;
    // Twenty tries take two seconds, in which two more are let in; and a SYN that is sent again counts again.
    ensure!((BURST..=BURST + 4).contains(&open), "{open} of 20 connections were let in");
    let dropped = verdicts(&edge, "web", &["rate_source_connections"])?;
    ensure!(dropped >= 20.0 - open as f64, "{dropped} SYNs were dropped, {open} of 20 let in");
    Ok(())
}
