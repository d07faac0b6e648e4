//! Tables: threads that agree, workers that die, and what operators see and do.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use lb_tests::harness::{Test, plain, with};
use lb_tests::here::{Here, free_address};
use lb_tests::wait::{PATIENCE, wait_ok};

use crate::site::{Backends, curl, kill_worker, port};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("clients_stay_when_the_worker_dies_and_move_when_they_are_cleared", &["nginx", "curl"], table),
        plain("a_persistence_that_cannot_be_is_told_with_its_place_and_a_remedy", bad),
    ]
}

fn table() -> Result<()> {
    let (here, at) = (Here::new()?, free_address()?);
    let backends = Backends::start(here.folder())?;
    let keys = "type = \"path_part\"\nmax_entries = 1000\n";
    let edge = here.start(&backends.config(&here, at, keys))?;
    let home = |user: usize| port(&curl(&here, at, &format!("/u{user}/x"), &[])?);
    let homes: BTreeMap<usize, u16> = (0..12).map(|user| Ok((user, home(user)?))).collect::<Result<_>>()?;
    ensure!(homes.values().collect::<std::collections::BTreeSet<_>>().len() == 3, "{homes:?}");
    for (user, port) in &homes {
        ensure!(home(*user)? == *port, "u{user}");
    }
    let total = |want: u64| {
        wait_ok("the list", PATIENCE, || {
            let list = edge.json(&["session", "list", "app"])?;
            ensure!(list["total"] == want, "{list}");
            Ok(list)
        })
    };
    let list = total(12)?;
    let first = &list["sessions"][0];
    ensure!(first["key"] == "u0" && first["backend"] == format!("127.0.0.1:{}", homes[&0]), "{list}");
    let page = edge.done(&["session", "list", "app", "--limit", "2", "--after", "u1"])?;
    ensure!(page.contains("u10 ") && page.contains("2 of 12; go on with --after 'u11'"), "{page}");
    ensure!(edge.metrics()?.sum("bailey_sessions", &[("pool", "app")]) == 12.0);

    for _ in 0..2 {
        kill_worker(&edge)?;
        for (user, port) in &homes {
            ensure!(home(*user)? == *port, "u{user} lost its backend with the worker");
        }
    }
    ensure!(edge.metrics()?.sum("bailey_sessions", &[("pool", "app")]) == 12.0);

    // A reload that changes other things keeps them, and so does a drain.
    edge.rewrite(&(backends.config(&here, at, keys) + "timeouts.idle = \"1m\"\n"))?;
    edge.done(&["reload"])?;
    let busy = format!("127.0.0.1:{}", homes[&0]);
    edge.done(&["pool", "drain", "app", &busy])?;
    for (user, port) in &homes {
        ensure!(home(*user)? == *port, "u{user}");
    }
    let of_it = homes.values().filter(|port| **port == homes[&0]).count();
    let cleared = edge.done(&["session", "clear", "app", "--backend", &busy])?;
    ensure!(cleared == format!("app: {of_it} cleared\n"), "{cleared}");
    ensure!(home(0)? != homes[&0], "it still goes to the one that drains");
    ensure!(edge.done(&["session", "clear", "app", "u0"])?.contains(": 1 "));
    ensure!(edge.done(&["session", "clear", "app", "u0"])?.contains(": 0 "));
    ensure!(edge.json(&["session", "clear", "app", "--all"])?["cleared"] == 12 - of_it);
    total(0)?;
    // What was cleared does not come back with the next worker.
    kill_worker(&edge)?;
    ensure!(edge.metrics()?.sum("bailey_sessions", &[("pool", "app")]) == 0.0);
    Ok(())
}

fn bad() -> Result<()> {
    let here = Here::new()?;
    let at = free_address()?;
    let config = |keys: &str| {
        format!(
            "{}[pool.app]\nbackends = [\"127.0.0.1:1\"]\n[pool.app.persistence]\n{keys}\n\
             [service.web]\naddresses = [\"{at}\"]\nmode = \"https\"\ncertificates = [\"lab\"]\npool = \"app\"\n",
            here.head("")
        )
    };
    ensure!(here.check(&config("type = \"cookie\""))?.code == Some(0));
    for (keys, words) in [
        ("type = \"tls_session\"", ["has no name that a server sees again", "type = \"cookie\""]),
        ("type = \"cookei\"", ["cookei", "did you mean \"cookie\"?"]),
        ("type = \"key\"\nkey = \"${clint.ip}\"", ["clint.ip", "client.ip"]),
        ("type = \"header\"", ["lacks the key `name`", "x-user"]),
        ("type = \"source\"\nkeys_file = \"x\"", ["does not belong to type \"source\"", "remove it"]),
        ("type = \"cookie\"\nsame_site = \"none\"\nsecure = false", ["SameSite=None", "\"lax\""]),
    ] {
        let outcome = here.check(&config(keys))?;
        let said = outcome.stderr.clone() + &outcome.stdout;
        let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(outcome.code == Some(1), "{keys} is taken");
        ensure!(words.iter().all(|word| flat.contains(word)), "{keys}: {said}");
    }
    Ok(())
}
