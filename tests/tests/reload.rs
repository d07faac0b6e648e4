//! A change is taken whole, or refused whole with the reason.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::client::{Protocol, Reply};
use lb_tests::edge::Edge;
use lb_tests::harness::{lab, main as run};
use lb_tests::lab::{Lab, ServedBy, VIP4};
use lb_tests::left::Left;
use lb_tests::wait::{PATIENCE, wait_for};
use rustix::process::Signal;

fn main() -> ExitCode {
    run(vec![
        lab("a_bad_config_changes_nothing_and_says_why", bad),
        lab("a_good_config_is_taken_by_the_next_request", good),
        lab("sighup_reloads_and_a_bad_file_is_refused_there_too", sighup),
        lab("a_service_comes_and_goes_with_its_address", service_comes_and_goes),
        lab("a_key_that_needs_a_restart_is_refused_and_named", needs_restart),
        lab("a_request_in_flight_outlives_a_reload", in_flight),
    ])
}

fn get(lab: &Lab, path: &str) -> Result<Reply> {
    let target = lab.target(VIP4, 443)?;
    lab.client.run_async(|| async { target.get(Protocol::Http1, path).await })
}

fn reloads(edge: &Edge, result: &str) -> Result<f64> {
    Ok(edge.metrics()?.sum("bailey_config_reloads_total", &[("result", result)]))
}

fn bad() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let config = lab.site("", "");
    let edge = Edge::start(&lab, &config)?;
    let before = (ServedBy::of(&get(&lab, "/")?)?.generation, Left::see(&lab)?);
    let wrongs = [
        (config.replace("mode = ", "moed = "), "moed"),
        (config.replace("pool = \"app\"", "pool = \"nowhere\""), "nowhere"),
        (config.replace("edge.key", "missing.key"), "missing.key"),
        (format!("{config}\n[[[\n"), "bailey.toml"),
    ];
    for (number, (wrong, named)) in wrongs.iter().enumerate() {
        edge.rewrite(wrong)?;
        let outcome = edge.cli(&["reload"])?;
        ensure!(outcome.code == Some(1) && outcome.stderr.contains(named), "not naming {named}: {outcome:?}");
        let now = (ServedBy::of(&get(&lab, "/")?)?.generation, Left::see(&lab)?);
        ensure!(now == before, "{before:?} became {now:?}");
        ensure!(reloads(&edge, "refused")? == (number + 1) as f64);
    }
    ensure!(reloads(&edge, "applied")? == 0.0);
    Ok(())
}

fn good() -> Result<()> {
    let lab = Lab::new(2)?;
    let backends = lab.start_backends()?;
    let second = format!("\"{}\"", lab.backend(1, 8080));
    let both = lab.site("", "");
    let first = both.replace(&format!(", {second}"), "");
    let edge = Edge::start(&lab, &first)?;
    let before = get(&lab, "/")?;
    ensure!(before.header("x-backend") == "backend1" && backends[1].count() == 0);
    edge.rewrite(&first.replace(&lab.backend(0, 8080).to_string(), &lab.backend(1, 8080).to_string()))?;
    edge.done(&["reload"])?;
    let after = get(&lab, "/")?;
    ensure!(after.header("x-backend") == "backend2", "{after:?}");
    ensure!(ServedBy::of(&after)?.generation > ServedBy::of(&before)?.generation);
    ensure!(reloads(&edge, "applied")? == 1.0);
    Ok(())
}

fn sighup() -> Result<()> {
    let lab = Lab::new(2)?;
    let _backends = lab.start_backends()?;
    let config = lab.site("", "").replace(&format!(", \"{}\"", lab.backend(1, 8080)), "");
    let mut edge = Edge::start(&lab, &config)?;
    edge.rewrite(&config.replace("pool = ", "pol = "))?;
    edge.process().signal(Signal::HUP)?;
    wait_for("the refusal", PATIENCE, || (reloads(&edge, "refused").ok()? == 1.0).then_some(()))?;
    ensure!(edge.log().contains("pol"), "the log does not say why:\n{}", edge.log());
    ensure!(get(&lab, "/")?.header("x-backend") == "backend1");
    edge.rewrite(&config.replace(&lab.backend(0, 8080).to_string(), &lab.backend(1, 8080).to_string()))?;
    edge.process().signal(Signal::HUP)?;
    wait_for("the reload", PATIENCE, || (reloads(&edge, "applied").ok()? == 1.0).then_some(()))?;
    ensure!(get(&lab, "/")?.header("x-backend") == "backend2");
    Ok(())
}

fn service_comes_and_goes() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let config = lab.site("", "");
    let edge = Edge::start(&lab, &config)?;
    let more = "[service.more]\naddresses = [\"10.99.0.7:9443\"]\nmode = \"https\"\ncertificates = [\"lab\"]\npool = \"app\"\n";
    let target = lab.target([10, 99, 0, 7], 9443)?;
    edge.rewrite(&(config.clone() + more))?;
    edge.done(&["reload"])?;
    let reply = lab.client.run_async(|| async { target.get(Protocol::Http2, "/").await })?;
    ensure!(reply.status == 200, "{reply:?}");
    edge.rewrite(&config)?;
    edge.done(&["reload"])?;
    let left = Left::see(&lab)?;
    ensure!(!left.routes.iter().any(|route| route.contains("10.99.0.7")), "{left:?}");
    ensure!(left.routes.iter().any(|route| route.contains(&VIP4.to_string())), "{left:?}");
    ensure!(get(&lab, "/")?.status == 200);
    Ok(())
}

fn needs_restart() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let config = lab.site("cpus = [0, 1]", "");
    let edge = Edge::start(&lab, &config)?;
    edge.rewrite(&config.replace("cpus = [0, 1]", "cpus = [0]"))?;
    let outcome = edge.cli(&["reload"])?;
    ensure!(outcome.code == Some(1) && outcome.stderr.contains("cpus"), "{outcome:?}");
    ensure!(outcome.stderr.contains("restart"), "{outcome:?}");
    ensure!(get(&lab, "/")?.status == 200);
    Ok(())
}

fn in_flight() -> Result<()> {
    let lab = Lab::new(1)?;
    let backends = lab.start_backends()?;
    let config = lab.site("", "");
    let edge = Edge::start(&lab, &config)?;
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| get(&lab, "/?delay_ms=1500"));
        // The backend records a request before it waits.
        wait_for("the request", Duration::from_secs(5), || (backends[0].count() == 1).then_some(()))?;
        edge.rewrite(
            &config.replace("pool = \"app\"\nserved", "pool = \"other\"\nserved").replace("[pool.app]", "[pool.other]"),
        )?;
        edge.done(&["reload"])?;
        let reply = slow.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        ensure!(reply.status == 200, "{reply:?}");
        Ok(())
    })
}
