//! Changes, who made them, and how they are taken back or saved.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use lb_tests::edge::Edge;
use lb_tests::harness::{Test, plain};
use lb_tests::wait::{PATIENCE, wait_ok};

use crate::site::{Site, kill, refused};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        plain("what_was_answered_is_there_after_a_kill_and_after_a_restart", restarts),
        plain("changes_are_one_transaction_shown_before_and_taken_back_after", transactions),
        plain("save_writes_the_file_and_leaves_its_comments", saves),
        plain("without_a_directory_every_answer_says_how_long_it_holds", nowhere),
        plain("clients_go_back_to_their_backends_after_a_restart_and_a_kill", sessions),
    ]
}

/// Weight and state of each backend.
fn pool(edge: &Edge<'_>) -> Result<Vec<String>> {
    let view = edge.json(&["pool", "show", "app"])?;
    let backends = view["backends"].as_array().context("backends")?.iter();
    Ok(backends.map(|one| format!("{} {} {}", one["address"], one["weight"], one["state"]).replace('"', "")).collect())
}

fn restarts() -> Result<()> {
    let site = Site::new()?;
    let (config, one) = (site.config(), site.backend.address.to_string());
    let mut edge = site.here.start(&config)?;
    let mut generation = 0;
    for round in 1..=3u16 {
        let address = format!("127.0.0.1:{round}");
        let done = edge.done(&["pool", "add", "app", &address, "--weight", &round.to_string()])?;
        ensure!(!done.contains("until the daemon ends"), "{done}");
        edge.done(&["pool", "disable", "app", &address])?;
        let (before, status) = (pool(&edge)?, edge.json(&["status"])?);
        let now = status["generation"].as_u64().context("generation")?;
        ensure!(now > generation, "{now} after {generation}");
        generation = now;
        let id = edge.json(&["service", "show", "web"])?["id"].clone();
        if round == 2 {
            ensure!(edge.stop()?.success())
        } else {
            kill(edge)?
        }
        edge = site.here.start(&config)?;
        ensure!(pool(&edge)? == before, "{before:?} became {:?}", pool(&edge)?);
        ensure!(edge.json(&["service", "show", "web"])?["id"] == id);
        site.serves()?;
    }
    let history = edge.json(&["history"])?;
    let last = &history["changes"][0];
    ensure!(history["last"] == 6 && last["what"][0] == "pool disable app 127.0.0.1:3", "{history}");
    let me = rustix::process::geteuid().as_raw();
    ensure!(last["who"]["uid"] == me && last["who"]["pid"].as_u64().is_some(), "{history}");
    ensure!(edge.done(&["history", "--limit", "2"])?.contains("the last 2 of 6"));
    // As after the first: the backend is there and serves.
    edge.done(&["rollback", "1"])?;
    ensure!(pool(&edge)?.contains(&"127.0.0.1:1 1 up".to_owned()), "{:?}", pool(&edge)?);
    refused(&edge, &["rollback", "99"], &["no change 99", "0 to 7", "bailey history"])?;
    edge.done(&["reset"])?;
    ensure!(pool(&edge)? == [format!("{one} 1 up")]);
    kill(edge)?;
    let edge = site.here.start(&config)?;
    ensure!(pool(&edge)? == [format!("{one} 1 up")]);
    ensure!(edge.done(&["diff"])?.contains("nothing differs"));
    Ok(())
}

fn transactions() -> Result<()> {
    let site = Site::new()?;
    let edge = site.here.start(&site.config())?;
    let file = site.here.file("changes");
    let path = file.to_str().context("a path")?;
    std::fs::write(&file, "# the new rack\npool add app 127.0.0.1:8 --weight 4\npool drain app 127.0.0.1:8\n")?;
    let before = pool(&edge)?;
    let shown = edge.done(&["apply", path, "--dry-run"])?;
    ensure!(shown.contains("127.0.0.1:8: none -> draining, weight 4") && shown.contains("nothing was done"), "{shown}");
    ensure!(pool(&edge)? == before && edge.json(&["history"])?["last"] == 0);
    let seen = edge.json(&["status"])?["generation"].to_string();
    edge.done(&["apply", path, "--if-generation", &seen])?;
    ensure!(pool(&edge)?.len() == 2);
    refused(
        &edge,
        &["pool", "remove", "app", "127.0.0.1:8", "--if-generation", &seen],
        &["changed since", "bailey history"],
    )?;
    refused(&edge, &["reset", "--if-change", "0"], &["change 0 is not what is in force"])?;
    edge.done(&["pool", "enable", "app", "127.0.0.1:8", "--if-change", "1"])?;
    // All or none, and the line that is wrong.
    std::fs::write(&file, "pool remove app 127.0.0.1:8\n\npool drain app 127.0.0.1:9\n")?;
    refused(&edge, &["apply", path], &["changes:3:", "no backend 127.0.0.1:9", "none of the changes"])?;
    std::fs::write(&file, "pool remove app 127.0.0.1:8\npool explode app 127.0.0.1:9\n")?;
    refused(&edge, &["apply", path], &["changes:2:", "explode", "nothing was changed"])?;
    ensure!(pool(&edge)?.len() == 2);
    let metrics = edge.metrics()?;
    let counted = |result: &str| metrics.sum("bailey_changes_total", &[("result", result)]);
    ensure!(counted("made") == 2.0 && counted("refused") == 3.0, "{}", edge.metrics_text()?);
    ensure!(metrics.sum("bailey_differences", &[]) == 1.0);
    site.serves()
}

fn saves() -> Result<()> {
    let site = Site::new()?;
    let (config, one) = (site.config(), site.backend.address.to_string());
    let edge = site.here.start(&config)?;
    edge.done(&["pool", "add", "app", "127.0.0.1:8", "--weight", "4"])?;
    edge.done(&["pool", "disable", "app", "127.0.0.1:8"])?;
    edge.done(&["pool", "weight", "app", &one, "3"])?;
    let diff = edge.done(&["diff"])?;
    ensure!(diff.contains("disabled, weight 4") && diff.contains("bailey save"), "{diff}");
    let shown = edge.done(&["save", "--dry-run"])?;
    let expected = config.replace(
        &format!("  \"{one}\", # rack 1\n"),
        &format!(
            "  {{ address = \"{one}\", weight = 3 }}, # rack 1\n  {{ address = \"127.0.0.1:8\", weight = 4, state = \"disabled\" }},\n"
        ),
    );
    let file = site.here.file("bailey.toml");
    ensure!(shown.contains("+  { address = \"127.0.0.1:8\"") && std::fs::read_to_string(&file)? == config, "{shown}");
    let before = pool(&edge)?;
    edge.done(&["save"])?;
    ensure!(std::fs::read_to_string(&file)? == expected, "{}", std::fs::read_to_string(&file)?);
    ensure!(edge.done(&["diff"])?.contains("nothing differs") && pool(&edge)? == before);
    // A file that was edited since is not written over.
    edge.done(&["pool", "enable", "app", "127.0.0.1:8"])?;
    edge.rewrite(&(expected + "# a word\n"))?;
    refused(&edge, &["save"], &["edited since", "bailey reload"])?;
    Ok(())
}

fn nowhere() -> Result<()> {
    let site = Site::new()?;
    let mut config = site.config_with("", "", "");
    let edge = site.here.start(&config)?;
    let done = edge.done(&["pool", "add", "app", "127.0.0.1:8"])?;
    ensure!(done.contains("until the daemon ends") && done.contains("`state` under [edge]"), "{done}");
    ensure!(edge.json(&["pool", "drain", "app", "127.0.0.1:8"])?["kept"].is_null());
    ensure!(edge.done(&["rollback", "1"])?.contains("until the daemon ends"), "the history is there all the same");
    kill(edge)?;
    let edge = site.here.start(&config)?;
    ensure!(pool(&edge)?.len() == 1);
    // A key that holds for the life of the process.
    config = site.config();
    edge.rewrite(&config)?;
    refused(&edge, &["reload"], &["edge.state"])
}

/// The status line of an answer to a client with this name.
fn ask(site: &Site, user: &str) -> Result<()> {
    let mut stream = TcpStream::connect(site.at)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
    write!(stream, "GET / HTTP/1.1\r\nhost: a.test\r\nx-user: {user}\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(text.starts_with("HTTP/1.1 200"), "{text}");
    Ok(())
}

fn sessions() -> Result<()> {
    let site = Site::new()?;
    let table = "[pool.app.persistence]\ntype = \"header\"\nname = \"x-user\"\n";
    let config = site.config_with("state = \"state\"\n", "", table);
    let mut edge = site.here.start(&config)?;
    for user in 0..20 {
        ask(&site, &format!("u{user}"))?;
    }
    let total = |edge: &Edge<'_>, want: u64| {
        wait_ok("the list", PATIENCE, || {
            let list = edge.json(&["session", "list", "app"])?;
            ensure!(list["total"] == want, "{list}");
            Ok(())
        })
    };
    total(&edge, 20)?;
    // What is not written yet is at an orderly end.
    ensure!(edge.stop()?.success());
    let edge = site.here.start(&config)?;
    total(&edge, 20)?;
    ensure!(edge.metrics()?.sum("bailey_sessions_loaded", &[]) == 20.0, "{}", edge.metrics_text()?);
    ask(&site, "u20")?;
    total(&edge, 21)?;
    wait_ok("the store", PATIENCE, || {
        let metrics = edge.metrics()?;
        ensure!(metrics.sum("bailey_sessions_saved_total", &[("result", "written")]) >= 1.0);
        ensure!(metrics.sum("bailey_sessions_unsaved", &[]) == 0.0);
        Ok(())
    })?;
    kill(edge)?;
    let edge = site.here.start(&config)?;
    total(&edge, 21)?;
    kill(edge)?;
    // One that cannot be read is set aside, and the edge serves.
    std::fs::write(site.state("sessions.redb"), "this is no store of sessions".repeat(500))?;
    let edge = site.here.start(&config)?;
    total(&edge, 0)?;
    ensure!(site.state("sessions.redb.damaged").exists());
    ask(&site, "u1")
}
