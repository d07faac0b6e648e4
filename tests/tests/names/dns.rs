//! Addresses join and leave as DNS says; while it says nothing that can be used, nothing changes.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lb_tests::client::{Protocol, Target};
use lb_tests::edge::Edge;
use lb_tests::harness::{Test, with};
use lb_tests::here::{Here, free_address};
use lb_tests::lab::HOST;
use lb_tests::netns::runtime;
use lb_tests::wait::wait_ok;

use super::site::{Dnsmasq, LONG, Puppet, Says, servers};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("addresses_join_and_leave_as_dnsmasq_says", &["nginx", "dnsmasq"], join_and_leave),
        with("dns_that_fails_or_answers_garbage_changes_nothing", &["nginx"], trouble),
        with("a_start_without_dns_has_what_it_had_before", &["nginx"], start_without),
    ]
}

const KEYS: &str =
    "families = \"ipv4\"\nmin_ttl = \"100ms\"\nretry = \"200ms\"\nhold = \"2s\"\ntimeout = \"300ms\"\ntries = 1\n";

fn config(here: &Here, at: SocketAddr, dns: SocketAddr, more: &str, backends: &str) -> String {
    format!(
        "{}[dns]\nservers = [\"{dns}\"]\n{KEYS}\
         [service.web]\naddresses = [\"{at}\"]\nmode = \"https\"\ncertificates = [\"lab\"]\npool = \"app\"\n\
         [pool.app]\ndrain_timeout = \"1s\"\nbackends = [{backends}]\n",
        here.head(more)
    )
}

/// Who answers, in a few requests.
fn answers(target: &Target) -> Result<BTreeSet<String>> {
    runtime()?.block_on(async {
        let mut connection = target.connect(Protocol::Http1).await?;
        let mut seen = BTreeSet::new();
        for _ in 0..8 {
            let reply = connection.get("/").await?;
            ensure!(reply.status == 200, "{reply:?}");
            seen.insert(String::from_utf8_lossy(&reply.body).into_owned());
        }
        Ok(seen)
    })
}

/// Wait until these answer, and no others; no request fails meanwhile.
fn wait_for(target: &Target, expected: &[&str]) -> Result<()> {
    let mut failed = None;
    let waited = wait_ok(&format!("{expected:?} to answer"), LONG, || match answers(target) {
        Ok(seen) if seen.iter().map(String::as_str).eq(expected.iter().copied()) => Ok(()),
        Ok(seen) => bail!("{seen:?}"),
        Err(error) => {
            failed = Some(error);
            Ok(())
        }
    });
    failed.map_or(waited, Err)
}

fn states(edge: &Edge) -> Result<Vec<(String, String)>> {
    let view = edge.json(&["pool", "show", "app"])?;
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let backends = view["backends"].as_array().context("no backends")?;
    Ok(backends.iter().map(|one| (word(&one["address"]), word(&one["state"]))).collect())
}

fn join_and_leave() -> Result<()> {
    let (here, at) = (Here::new()?, free_address()?);
    let (_nginx, port) = servers(here.folder(), &[1, 2, 3], true)?;
    let dns = Dnsmasq::start(here.folder(), "127.0.0.2 app.bailey.test\n")?;
    // Verified by the name that it was found by: the certificate has no address.
    let tls = "[pool.app.tls]\nca = \"ca.pem\"\n";
    let text = config(&here, at, dns.at, "", &format!("\"app.bailey.test:{port}\"")) + tls;
    let edge = here.start(&text)?;
    let target = here.target(at, HOST)?;
    // It was looked up before the first request could come.
    ensure!(answers(&target)?.into_iter().eq(["127.0.0.2"]), "the start did not wait for DNS");
    dns.say("127.0.0.1 app.bailey.test\n127.0.0.2 app.bailey.test\n127.0.0.3 app.bailey.test\n")?;
    wait_for(&target, &["127.0.0.1", "127.0.0.2", "127.0.0.3"])?;
    let shown = edge.done(&["pool", "show", "app"])?;
    ensure!(shown.contains(&format!("name app.bailey.test:{port} is 127.0.0.1, 127.0.0.2 and 1 more")), "{shown}");
    ensure!(shown.contains(&format!("127.0.0.3:{port} (app.bailey.test:{port})")), "{shown}");
    dns.say("127.0.0.3 app.bailey.test\n")?;
    wait_for(&target, &["127.0.0.3"])?;
    let draining = states(&edge)?;
    ensure!(draining.iter().filter(|(_, state)| state == "draining").count() == 2, "{draining:?}");
    wait_ok("those that left to be gone", LONG, || {
        let states = states(&edge)?;
        ensure!(states.len() == 1, "{states:?}");
        Ok(())
    })?;
    // It hangs: what it said last holds. It comes back, and says something else.
    dns.halt(true)?;
    wait_ok("a failure", LONG, || {
        let failing = edge.metrics()?.sum("bailey_dns_failing", &[("name", "app.bailey.test")]);
        ensure!(failing == 1.0, "{failing}");
        Ok(())
    })?;
    let status = edge.cli(&["status"])?;
    ensure!(status.code == Some(1) && status.stdout.contains("cannot be looked up since"), "{status:?}");
    ensure!(answers(&target)?.into_iter().eq(["127.0.0.3"]));
    dns.say("127.0.0.1 app.bailey.test\n")?;
    dns.halt(false)?;
    wait_for(&target, &["127.0.0.1"])?;
    // The name is gone: its address stays for a while, and leaves then.
    dns.say("")?;
    wait_ok("an empty answer", LONG, || {
        let empty = edge.metrics()?.sum("bailey_dns_lookups_total", &[("result", "empty")]);
        ensure!(empty > 0.0, "{empty}");
        Ok(())
    })?;
    ensure!(answers(&target)?.into_iter().eq(["127.0.0.1"]));
    wait_ok("the last to leave", LONG, || {
        let states = states(&edge)?;
        ensure!(states.is_empty(), "{states:?}");
        Ok(())
    })?;
    // A file with a name that nobody has, and nothing else, is refused.
    edge.rewrite(&text.replace("app.bailey.test", "typo.bailey.test"))?;
    let refused = edge.cli(&["reload"])?;
    let said = refused.stderr.clone() + &refused.stdout;
    ensure!(
        refused.code == Some(1) && said.contains("\"typo.bailey.test\" was not looked up: it has no address"),
        "{said}"
    );
    Ok(())
}

fn trouble() -> Result<()> {
    let (here, at) = (Here::new()?, free_address()?);
    let (_nginx, port) = servers(here.folder(), &[1, 2], false)?;
    let good = |last: u8| Says::Addresses(vec![Ipv4Addr::new(127, 0, 0, last)]);
    let dns = Puppet::start(good(1))?;
    let edge = here.start(&config(&here, at, dns.at, "", &format!("\"app.test:{port}\"")))?;
    let target = here.target(at, HOST)?;
    ensure!(answers(&target)?.into_iter().eq(["127.0.0.1"]));
    let nowhere = Says::Addresses(vec![Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)]);
    let bad = [Says::Code(2), Says::Silence, Says::Noise, Says::Cut, Says::Foreign, Says::Code(5), nowhere];
    for says in bad {
        dns.say(says.clone())?;
        let answers = answers(&target)?;
        ensure!(answers.iter().eq(["127.0.0.1"]), "{says:?}: {answers:?}");
    }
    let metrics = edge.metrics()?;
    ensure!(metrics.sum("bailey_dns_lookups_total", &[("result", "failed")]) >= 6.0);
    ensure!(metrics.sum("bailey_dns_addresses", &[]) == 1.0);
    ensure!(metrics.sum("bailey_dns_addresses_rejected_total", &[]) >= 3.0);
    dns.say(good(2))?;
    wait_for(&target, &["127.0.0.2"])?;
    // Many at once, which are gone again.
    dns.say(Says::Addresses((1..=60).map(|n| Ipv4Addr::new(127, 1, 0, n)).collect()))?;
    dns.say(good(2))?;
    wait_for(&target, &["127.0.0.2"])
}

fn start_without() -> Result<()> {
    let (here, at) = (Here::new()?, free_address()?);
    let (_nginx, port) = servers(here.folder(), &[1], false)?;
    let dns = Puppet::start(Says::Addresses(vec![Ipv4Addr::LOCALHOST]))?;
    let text = config(&here, at, dns.at, "state = \"state\"\n", &format!("\"app.test:{port}\""));
    let target = here.target(at, HOST)?;
    let mut edge = here.start(&text)?;
    ensure!(answers(&target)?.into_iter().eq(["127.0.0.1"]));
    let stored = here.file("state").join("names.json");
    wait_ok("the answer to be stored", LONG, || {
        ensure!(std::fs::read_to_string(&stored)?.contains("127.0.0.1"));
        Ok(())
    })?;
    edge.stop()?;
    drop(edge);
    drop(dns);
    let began = std::time::Instant::now();
    let edge = here.start(&text)?;
    ensure!(answers(&target)?.into_iter().eq(["127.0.0.1"]));
    ensure!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    drop(edge);
    // A file that nobody can read is nothing.
    std::fs::write(&stored, "{\"app.test\": [\"127.0")?;
    let edge = here.start(&text)?;
    let states = states(&edge)?;
    ensure!(states.is_empty(), "{states:?}");
    Ok(())
}
