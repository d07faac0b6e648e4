//! A pool changes under connections that live long: only those of what is gone break, every other one keeps its
//! backend, and what begins afterwards is spread over those that take new flows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::edge::Edge;
use lb_tests::forwarding::Own;
use lb_tests::lab::{Lab, VIP4};
use lb_tests::lines::{Answer, Connections, Lines};
use lb_tests::wait::{PATIENCE, wait_ok};

use crate::site::service;

const PORT: u16 = 7000;
const LONG_LIVED: usize = 200;
/// Connections that show where new flows go: with two backends of equal weight, none by chance once in 2^59.
const NEW: usize = 60;
/// An answer that takes longer is none.
const SOON: Duration = Duration::from_secs(3);
const HEALTH: &str = "[pool.app.health]\ntype = \"tcp\"\ninterval = \"300ms\"\ntimeout = \"200ms\"\nfall = 2\n";

pub(crate) fn nat() -> Result<()> {
    changes("nat")
}

pub(crate) fn l2() -> Result<()> {
    changes("l2")
}

struct Case<'a> {
    lab: &'a Lab,
    edge: Edge<'a>,
    long_lived: Connections,
    /// Who answered on each connection at first.
    owners: Vec<String>,
}

fn changes(forward: &str) -> Result<()> {
    let lab = Lab::forwarding(4)?;
    let mut servers = Vec::new();
    for i in 0..4_u8 {
        let mut listen = vec![lab.backend(i, PORT)];
        if forward == "l2" {
            lab.answers_directly(i, Own::Loopback)?;
            listen.push((VIP4, PORT).into());
        }
        servers.push(Lines::start(&lab.backends[usize::from(i)], &i.to_string(), &listen)?);
    }
    let [one, two, three, four] = [0, 1, 2, 3].map(|i| lab.backend(i, PORT).to_string());
    let pool: Vec<SocketAddr> = (0..3).map(|i| lab.backend(i, PORT)).collect();
    let config = service(forward, "7000", &pool, "drain = \"2s\"") + HEALTH;
    let edge = Edge::start(&lab, &lab.forwards("", &config))?;
    wait_ok("the backends to be known as up", PATIENCE, || {
        let shown = edge.json(&["pool", "show", "app"])?;
        ensure!(shown["backends"].as_array().is_some_and(|all| all.iter().all(|one| one["health"] == "up")), "{shown}");
        Ok(())
    })?;
    let mut long_lived = Connections::open(&lab.client, (VIP4, PORT).into(), LONG_LIVED)?;
    let owners = names(long_lived.ask(SOON)).into_iter().map(|name| name.context("a connection broke at once"));
    let owners = owners.collect::<Result<Vec<_>>>()?;
    let mut case = Case { lab: &lab, edge, long_lived, owners };
    for owner in ["0", "1", "2"] {
        ensure!(case.owners.iter().filter(|name| *name == owner).count() > LONG_LIVED / 5, "{:?}", case.owners);
    }

    case.edge.done(&["pool", "add", "app", &four])?;
    case.unbroken_but(&[])?;
    case.new_flows_go_to(&["0", "1", "2", "3"])?;

    case.edge.done(&["pool", "drain", "app", &two])?;
    case.unbroken_but(&[])?;
    case.new_flows_go_to(&["0", "2", "3"])?;

    // Its cable is cut: nothing says goodbye.
    lab.edge.ip("link set dmz3 down")?;
    case.state(&three, "down")?;
    case.unbroken_but(&["2"])?;
    case.new_flows_go_to(&["0", "3"])?;

    case.edge.done(&["pool", "remove", "app", &one])?;
    // Who is removed may keep the flows that it has; the lab does not ask.
    case.unbroken_but(&["2", "0"])?;
    case.new_flows_go_to(&["3"])?;

    let Case { edge, long_lived, .. } = case;
    let before = edge.json(&["service", "show", "web"])?;
    ensure!(before["forward"]["remembered"].as_u64() > Some(0), "nothing was remembered: {before}");
    drop(long_lived);
    drop(servers);
    wait_ok("slots to settle", PATIENCE, || {
        let shown = edge.json(&["service", "show", "web"])?;
        ensure!(shown["forward"]["moved"] == 0 && shown["forward"]["watched"] == 0, "{shown}");
        Ok(())
    })
}

impl Case<'_> {
    /// Every connection is still answered by who answered it first, but those of `gone`.
    fn unbroken_but(&mut self, gone: &[&str]) -> Result<()> {
        let answers = names(self.long_lived.ask(SOON));
        let mut kept = 0;
        for (owner, answer) in self.owners.iter().zip(answers) {
            match answer {
                Some(name) => ensure!(name == *owner, "a connection of {owner} is answered by {name}"),
                None => ensure!(gone.contains(&owner.as_str()), "a connection of {owner} broke"),
            }
            kept += usize::from(!gone.contains(&owner.as_str()));
        }
        ensure!(kept > 0, "nothing was left to keep");
        Ok(())
    }

    fn new_flows_go_to(&self, expected: &[&str]) -> Result<()> {
        let mut new = Connections::open(&self.lab.client, (VIP4, PORT).into(), NEW)?;
        let mut shares = BTreeMap::<String, usize>::new();
        for name in names(new.ask(SOON)) {
            *shares.entry(name.context("a new connection broke")?).or_default() += 1;
        }
        ensure!(shares.keys().map(String::as_str).eq(expected.iter().copied()), "{shares:?}, not {expected:?}");
        Ok(())
    }

    fn state(&self, address: &str, state: &str) -> Result<()> {
        wait_ok("a backend's state", PATIENCE, || {
            let shown = self.edge.json(&["pool", "show", "app"])?;
            let backends = shown["backends"].as_array().context("no backends")?;
            ensure!(backends.iter().any(|one| one["address"] == address && one["state"] == state), "{shown}");
            Ok(())
        })
    }
}

fn names(answers: Vec<Option<Answer>>) -> Vec<Option<String>> {
    answers.into_iter().map(|answer| Some(answer?.name)).collect()
}
