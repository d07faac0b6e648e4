//! Every verb of the command line: a table for people, JSON for programs, an exit code for scripts.

mod import;
mod terminal;
mod tools;

use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::client::Protocol;
use lb_tests::edge::{Edge, cli_command};
use lb_tests::harness::{lab, main as run, plain, with};
use lb_tests::lab::{Lab, VIP4};
use lb_tests::need::binary;
use lb_tests::wait::{PATIENCE, wait_for};
use serde_json::Value;

fn main() -> ExitCode {
    run(vec![
        lab("status_shows_edge_worker_and_services", status),
        lab("services_and_pools_are_listed_and_shown", listed),
        lab("a_pools_backends_are_added_weighed_drained_disabled_and_removed", pool_verbs),
        lab("drain_waits_for_requests_in_flight", drain_waits),
        lab("what_was_changed_at_run_time_outlives_a_reload_and_a_worker", overlay),
        lab("status_exits_1_when_a_pool_has_no_backend_left", unhealthy),
        lab("flow_tells_the_worker_of_a_connection", flow),
        lab("wrong_arguments_exit_2_and_refused_ones_1", wrong),
        lab("rules_are_added_listed_and_removed", rules),
        lab("watch_refuses_what_is_not_there", watch),
        plain("an_imported_config_passes_the_check", import::passes),
        with("an_imported_site_is_served_as_it_was", &["nginx", "curl"], import::serves),
        plain("a_doctor_looks_at_host_config_and_daemon", tools::of_sockets),
        lab("a_doctor_has_the_kernel_take_the_programs", tools::of_the_kernel),
        lab("top_tells_what_happens_a_second", tools::top),
        plain("a_trace_tells_the_way_of_a_request_and_where_it_ends", tools::trace),
        lab("a_trace_goes_on_with_what_is_dropped", tools::trace_live),
        plain("without_a_daemon_the_error_names_the_socket", no_daemon),
        plain("completions_are_written_for_the_usual_shells", completions),
        plain("help_and_version_are_there", help),
        plain("a_manual_page_is_written_for_each_verb", terminal::manual),
        plain("colours_are_for_terminals_and_for_who_asks_for_them", terminal::colours),
        with("a_terminal_has_colours_and_is_written_over", &["script"], terminal::a_terminal),
        plain("what_is_watched_comes_again_until_the_daemon_ends", terminal::again),
        plain("whoever_reads_no_further_is_no_error", terminal::no_reader),
    ])
}

/// The object in which some field is this backend's address.
fn backend(value: &Value, address: SocketAddr) -> Option<&Value> {
    let text = address.to_string();
    match value {
        Value::Object(fields) if fields.values().any(|field| field == text.as_str()) => Some(value),
        Value::Object(fields) => fields.values().find_map(|field| backend(field, address)),
        Value::Array(items) => items.iter().find_map(|item| backend(item, address)),
        _ => None,
    }
}

fn get(lab: &Lab) -> Result<String> {
    let target = lab.target(VIP4, 443)?;
    let reply = lab.client.run_async(|| async { target.get(Protocol::Http1, "/").await })?;
    Ok(if reply.status == 200 { reply.header("x-backend").into() } else { reply.status.to_string() })
}

/// Who answers a dozen requests, each backend once.
fn answering(lab: &Lab) -> Result<Vec<String>> {
    let mut names = (0..12).map(|_| get(lab)).collect::<Result<Vec<_>>>()?;
    names.sort();
    names.dedup();
    Ok(names)
}

fn status() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let edge = Edge::start(&lab, &lab.site("cpus = [0, 1]", ""))?;
    let table = edge.done(&["status"])?;
    for word in [lab.name.as_str(), "native", "wan", "web"] {
        ensure!(table.contains(word), "no {word:?} in\n{table}");
    }
    ensure!(serde_json::from_str::<Value>(&table).is_err(), "JSON without --json");
    let json = edge.json(&["status"])?.to_string();
    for word in [lab.name.as_str(), "native", "wan", "web"] {
        ensure!(json.contains(word), "no {word:?} in {json}");
    }
    let worker = wait_for("a worker", PATIENCE, || edge.worker())?;
    ensure!(json.contains(&worker.to_string()), "the worker's process {worker} is not in {json}");
    Ok(())
}

fn listed() -> Result<()> {
    let lab = Lab::new(2)?;
    let _backends = lab.start_backends()?;
    let edge = Edge::start(&lab, &lab.site("", ""))?;
    let second = lab.backend(1, 8080);
    for (verb, words) in [
        (vec!["service", "list"], vec!["web".to_string(), format!("{VIP4}:443")]),
        (vec!["service", "show", "web"], vec!["web".into(), format!("{VIP4}:443"), "app".into(), "https".into()]),
        (vec!["pool", "list"], vec!["app".into()]),
        (vec!["pool", "show", "app"], vec!["app".into(), second.to_string(), "up".into()]),
    ] {
        let (table, json) = (edge.done(&verb)?, edge.json(&verb)?.to_string());
        for word in &words {
            ensure!(table.contains(word) && json.contains(word), "{verb:?}: no {word:?} in\n{table}\n{json}");
        }
    }
    Ok(())
}

fn pool_verbs() -> Result<()> {
    let lab = Lab::new(2)?;
    let _backends = lab.start_backends()?;
    let (one, two) = (lab.backend(0, 8080), lab.backend(1, 8080));
    let config = lab.site("", "").replace(&format!(", \"{two}\""), "");
    let edge = Edge::start(&lab, &config)?;
    let (first, second) = (one.to_string(), two.to_string());
    let shown =
        |address| -> Result<Option<Value>> { Ok(backend(&edge.json(&["pool", "show", "app"])?, address).cloned()) };
    let state =
        |address| -> Result<Value> { Ok(shown(address)?.context("the backend is not shown")?["state"].clone()) };

    ensure!(answering(&lab)? == ["backend1"]);
    edge.done(&["pool", "add", "app", &second, "--weight", "3"])?;
    ensure!(shown(two)?.is_some_and(|b| b["weight"] == 3), "{:?}", shown(two)?);
    ensure!(answering(&lab)? == ["backend1", "backend2"]);
    edge.done(&["pool", "weight", "app", &second, "7"])?;
    ensure!(shown(two)?.is_some_and(|b| b["weight"] == 7), "{:?}", shown(two)?);
    edge.done(&["pool", "drain", "app", &first])?;
    ensure!(state(one)? == "draining" && answering(&lab)? == ["backend2"], "{:?}", shown(one)?);
    edge.done(&["pool", "enable", "app", &first])?;
    ensure!(state(one)? == "up" && answering(&lab)? == ["backend1", "backend2"], "{:?}", shown(one)?);
    edge.done(&["pool", "disable", "app", &second])?;
    ensure!(state(two)? == "disabled" && answering(&lab)? == ["backend1"], "{:?}", shown(two)?);
    edge.done(&["pool", "remove", "app", &second])?;
    ensure!(shown(two)?.is_none() && answering(&lab)? == ["backend1"]);
    edge.done(&["pool", "remove", "app", &first])?;
    ensure!(get(&lab)?.starts_with("503"), "an empty pool answered {}", get(&lab)?);
    edge.done(&["pool", "add", "app", &first])?;
    ensure!(answering(&lab)? == ["backend1"]);
    Ok(())
}

fn drain_waits() -> Result<()> {
    let lab = Lab::new(2)?;
    let backends = lab.start_backends()?;
    let edge = Edge::start(&lab, &lab.site("", ""))?;
    let target = lab.target(VIP4, 443)?;
    std::thread::scope(|scope| {
        let slow =
            scope.spawn(|| lab.client.run_async(|| async { target.get(Protocol::Http1, "/?delay_ms=1500").await }));
        let busy = wait_for("the request", PATIENCE, || backends.iter().position(|backend| backend.count() == 1))?;
        let address = backends[busy].address.to_string();
        let start = std::time::Instant::now();
        edge.done(&["pool", "drain", "app", &address, "--wait"])?;
        let waited = start.elapsed();
        let reply = slow.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        ensure!(reply.status == 200, "{reply:?}");
        ensure!(waited > Duration::from_millis(500), "drain --wait came back after {waited:?}");
        ensure!(answering(&lab)?.len() == 1);
        Ok(())
    })
}

fn overlay() -> Result<()> {
    let lab = Lab::new(2)?;
    let _backends = lab.start_backends()?;
    let edge = Edge::start(&lab, &lab.site("", ""))?;
    edge.done(&["pool", "disable", "app", &lab.backend(0, 8080).to_string()])?;
    edge.done(&["reload"])?;
    ensure!(answering(&lab)? == ["backend2"]);
    let worker = wait_for("a worker", PATIENCE, || edge.worker())?;
    lb_tests::process::signal_process(worker, rustix::process::Signal::KILL)?;
    wait_for("another worker", PATIENCE, || edge.worker().filter(|new| *new != worker))?;
    ensure!(answering(&lab)? == ["backend2"]);
    Ok(())
}

fn unhealthy() -> Result<()> {
    let lab = Lab::new(2)?;
    let mut backends = lab.start_backends()?;
    let health = "[pool.app.health]\ntype = \"http\"\ninterval = \"100ms\"\ntimeout = \"500ms\"\nrise = 1\nfall = 2\n";
    let edge = Edge::start(&lab, &(lab.site("", "") + health))?;
    let code = || edge.cli(&["status"]).ok()?.code;
    ensure!(code() == Some(0));
    let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
    drop(backends.remove(0));
    wait_for("the check to fail", PATIENCE, || {
        let shown = edge.json(&["pool", "show", "app"]).ok()?;
        backend(&shown, addresses[0]).is_some_and(|backend| backend["state"] == "down").then_some(())
    })?;
    ensure!(answering(&lab)? == ["backend2"]);
    ensure!(edge.metrics()?.sum("bailey_backend_up", &[("backend", &addresses[0].to_string())]) == 0.0);
    // One of two is down and the pool serves; with both down it does not.
    drop(backends);
    wait_for("status to be unhealthy", PATIENCE, || (code() == Some(1)).then_some(()))?;
    ensure!(edge.done(&["pool", "show", "app"])?.contains("down"));
    ensure!(get(&lab)?.starts_with("503"), "a pool without a backend answered {}", get(&lab)?);
    let _again = lab.start_backends()?;
    wait_for("status to be healthy", PATIENCE, || (code() == Some(0)).then_some(()))?;
    wait_for("both to answer", PATIENCE, || (answering(&lab).ok()? == ["backend1", "backend2"]).then_some(()))
}

fn flow() -> Result<()> {
    let lab = Lab::new(0)?;
    let edge = Edge::start(&lab, &lab.site("cpus = [0, 1]\nsteering = \"hash\"", ""))?;
    let vip = format!("{VIP4}:443/tcp");
    let said = edge.json(&["flow", "10.77.0.2:40000", &vip])?;
    ensure!(said["worker"].is_u64() && said["cpu"].is_u64() && said["slot"].is_u64(), "{said}");
    ensure!(edge.json(&["flow", "10.77.0.2:40000", &vip])? == said, "another answer for the same flow");
    let table = edge.done(&["flow", "10.77.0.2:40000", &vip])?;
    ensure!(table.contains(&said["worker"].to_string()), "{table}");
    Ok(())
}

fn wrong() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let edge = Edge::start(&lab, &lab.site("", ""))?;
    let known = lab.backend(0, 8080).to_string();
    let usages: [&[&str]; 6] = [
        &["nonsense"],
        &["pool", "add", "app"],
        &["pool", "add", "app", "not-an-address"],
        &["pool", "weight", "app", &known, "many"],
        &["flow", "10.77.0.2", "nowhere"],
        &["status", "--nonsense"],
    ];
    for usage in usages {
        let outcome = edge.cli(usage)?;
        ensure!(outcome.code == Some(2) && !outcome.stderr.is_empty(), "{usage:?}: {outcome:?}");
    }
    let refusals: [(&[&str], &str); 7] = [
        (&["service", "show", "wbe"], "wbe"),
        (&["pool", "show", "nowhere"], "nowhere"),
        (&["pool", "add", "nowhere", "10.0.0.1:80"], "nowhere"),
        (&["pool", "add", "app", &known], &known),
        (&["pool", "remove", "app", "10.0.0.1:80"], "10.0.0.1:80"),
        (&["pool", "drain", "app", "10.0.0.1:80"], "10.0.0.1:80"),
        (&["pool", "weight", "app", "10.0.0.1:80", "2"], "10.0.0.1:80"),
    ];
    for (verb, named) in refusals {
        let outcome = edge.cli(verb)?;
        ensure!(outcome.code == Some(1) && outcome.stderr.contains(named), "{verb:?}: {outcome:?}");
        let outcome = edge.cli(&[verb, &["--json"]].concat())?;
        ensure!(outcome.code == Some(1), "{verb:?} --json: {outcome:?}");
    }
    ensure!(answering(&lab)? == ["backend1"], "something changed");
    Ok(())
}

fn rules() -> Result<()> {
    let lab = Lab::new(1)?;
    let edge = Edge::start(&lab, &(lab.site("", "") + "[shield]\ndeny = [\"203.0.113.0/24\"]\n"))?;
    edge.done(&["deny", "add", "192.0.2.0/24", "--for", "1h", "--service", "web"])?;
    edge.done(&["deny", "add", "192.0.2.7", "--allow"])?;
    let rules = edge.json(&["deny", "list"])?;
    ensure!(rules["total"] == 3, "{rules}");
    let table = edge.done(&["deny", "list"])?;
    for word in ["203.0.113.0/24", "192.0.2.0/24", "192.0.2.7/32", "allow", "file", "run time", "3 rules"] {
        ensure!(table.contains(word), "no {word:?} in\n{table}");
    }
    let own = edge.json(&["deny", "list", "--service", "web"])?;
    ensure!(own["total"] == 1 && own["rules"][0]["seconds_left"].as_u64().is_some_and(|left| left <= 3600), "{own}");
    edge.done(&["reload"])?;
    ensure!(edge.json(&["deny", "list"])?["total"] == 3, "a reload forgot rules");
    edge.done(&["deny", "remove", "192.0.2.0/24", "--service", "web"])?;
    ensure!(edge.json(&["deny", "list"])?["total"] == 2);
    for (verb, said) in
        [(["deny", "remove", "203.0.113.0/24"], "--allow"), (["deny", "remove", "198.51.100.0/24"], "no rule")]
    {
        let outcome = edge.cli(&verb)?;
        ensure!(outcome.code == Some(1) && outcome.stderr.contains(said), "{verb:?}: {outcome:?}");
    }
    Ok(())
}

fn watch() -> Result<()> {
    let lab = Lab::new(1)?;
    let edge = Edge::start(&lab, &lab.site("", ""))?;
    for (verb, said) in [
        (["watch", "--service", "wbe"], "\"web\""),
        (["watch", "--verdict", "denid"], "\"denied\""),
        (["deny", "list", "--service=wbe"], "\"web\""),
    ] {
        let outcome = edge.cli(&verb)?;
        ensure!(outcome.code == Some(1) && outcome.stderr.contains(said), "{verb:?}: {outcome:?}");
    }
    Ok(())
}

fn no_daemon() -> Result<()> {
    let outcome = cli_command(Command::new(binary("bailey")?).args(["--socket", "/nonexistent/admin.sock", "status"]))?;
    ensure!(outcome.code == Some(1) && outcome.stderr.contains("/nonexistent/admin.sock"), "{outcome:?}");
    Ok(())
}

fn completions() -> Result<()> {
    for shell in ["bash", "zsh", "fish"] {
        let outcome = cli_command(Command::new(binary("bailey")?).args(["completions", shell]))?;
        ensure!(outcome.code == Some(0) && outcome.stdout.contains("reload"), "{shell}: {outcome:?}");
    }
    Ok(())
}

fn help() -> Result<()> {
    let outcome = cli_command(Command::new(binary("bailey")?).arg("--help"))?;
    ensure!(outcome.code == Some(0));
    for verb in ["run", "check", "status", "service", "pool", "flow", "deny", "watch", "decap", "reload"] {
        ensure!(outcome.stdout.contains(verb), "no {verb} in the help: {}", outcome.stdout);
    }
    ensure!(cli_command(Command::new(binary("bailey")?).arg("--version"))?.code == Some(0));
    Ok(())
}
