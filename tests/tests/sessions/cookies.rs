//! Cookies: the edge's own, sealed; and the application's, learned.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lb_tests::harness::{Test, with};
use lb_tests::here::{Here, free_address};

use crate::site::{Backends, curl, kill_worker, lookups, port};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("a_cookie_jar_leads_back_at_two_edges_and_through_a_dead_worker", &["nginx", "curl"], two_edges),
        with("a_cookie_that_the_application_sets_is_learned", &["nginx", "curl"], learned),
    ]
}

fn keys(here: &Here, name: &str, seeds: &[u8]) -> Result<()> {
    let lines: String = seeds.iter().map(|seed| STANDARD.encode([*seed; 48]) + "\n").collect();
    std::fs::write(here.file(name), lines)?;
    Ok(std::fs::set_permissions(here.file(name), PermissionsExt::from_mode(0o600))?)
}

fn two_edges() -> Result<()> {
    let (here, there, at, also_at) = (Here::new()?, Here::new()?, free_address()?, free_address()?);
    let backends = Backends::start(here.folder())?;
    for place in [&here, &there] {
        keys(place, "cookie.keys", &[1, 2])?;
    }
    let persistence = "type = \"cookie\"\nname = \"sid\"\nkeys_file = \"cookie.keys\"\nmax_age = \"1h\"\n";
    let edge = here.start(&backends.config(&here, at, persistence))?;
    let other = there.start(&backends.config(&there, also_at, persistence))?;
    let jar = here.file("jar").to_string_lossy().into_owned();
    let words = ["-b", jar.as_str(), "-c", jar.as_str()];
    let first = curl(&here, at, "/", &words)?;
    ensure!(first.to_lowercase().contains("; path=/; max-age=3600; samesite=lax; httponly; secure"), "{first}");
    let home = port(&first)?;
    ensure!(!first.contains(&format!("sid={home}")), "the cookie tells where it leads: {first}");
    // Whatever cookies go along, the backend sees those that are its own business.
    let again = curl(&here, at, "/", &["-b", &jar, "-b", "x=1"]);
    ensure!(again.is_ok());
    for round in 0..6 {
        for (place, at) in [(&here, at), (&there, also_at)] {
            let said = curl(place, at, "/", &words)?;
            ensure!(port(&said)? == home && said.contains("[]"), "round {round}: {said}");
            ensure!(!said.to_lowercase().contains("set-cookie"), "it is still good: {said}");
        }
    }
    kill_worker(&edge)?;
    ensure!(port(&curl(&here, at, "/", &words)?)? == home, "a new worker does not know the cookie");

    // Its backend goes: one move, and it stays there when the first one is back.
    let address = format!("127.0.0.1:{home}");
    edge.done(&["pool", "disable", "app", &address])?;
    let moved = curl(&here, at, "/", &words)?;
    let new = port(&moved)?;
    ensure!(new != home && moved.to_lowercase().contains("set-cookie: sid="), "{moved}");
    edge.done(&["pool", "enable", "app", &address])?;
    for _ in 0..4 {
        ensure!(port(&curl(&here, at, "/", &words)?)? == new);
    }
    ensure!(lookups(&edge, "moved")? == 1.0);

    // A drain keeps who is there.
    edge.done(&["pool", "drain", "app", &format!("127.0.0.1:{new}")])?;
    for _ in 0..4 {
        ensure!(port(&curl(&here, at, "/", &words)?)? == new);
        ensure!(port(&curl(&here, at, "/", &[])?)? != new, "a new client on a backend that drains");
    }

    // One that somebody made up, and the table that there is none of.
    let forged = curl(&here, at, "/", &["-b", "sid=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"])?;
    ensure!(forged.to_lowercase().contains("set-cookie: sid=") && lookups(&edge, "bad_cookie")? == 1.0);
    let list = edge.cli(&["session", "list", "app"])?;
    ensure!(list.code == Some(1) && list.stderr.contains("keeps no table"), "{list:?}");

    // Other keys, by a reload of the files alone: every client is a new one.
    keys(&there, "cookie.keys", &[8])?;
    other.done(&["cert", "reload"])?;
    let fresh = curl(&there, also_at, "/", &words)?;
    ensure!(fresh.to_lowercase().contains("set-cookie: sid="), "{fresh}");
    Ok(())
}

fn learned() -> Result<()> {
    let (here, at) = (Here::new()?, free_address()?);
    let backends = Backends::start(here.folder())?;
    let edge = here.start(&backends.config(&here, at, "type = \"app_cookie\"\nname = \"APPID\"\n"))?;
    for user in 0..6 {
        let jar = here.file(&format!("jar{user}")).to_string_lossy().into_owned();
        let words = ["-b", jar.as_str(), "-c", jar.as_str()];
        let home = port(&curl(&here, at, "/login", &words)?)?;
        for _ in 0..4 {
            let said = curl(&here, at, "/", &words)?;
            ensure!(port(&said)? == home && said.contains(&format!("[APPID={home}-")), "{said}");
        }
    }
    ensure!(lookups(&edge, "hit")? == 24.0, "{}", edge.metrics_text()?);
    Ok(())
}
