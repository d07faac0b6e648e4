//! Access logs: rotation under load, a worker that dies, targets that take nothing, syslog.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::backend::Backend;
use lb_tests::client::{Protocol, Target};
use lb_tests::edge::Edge;
use lb_tests::harness::{Test, plain, with};
use lb_tests::here::{Here, free_address};
use lb_tests::lab::HOST;
use lb_tests::netns::runtime;
use lb_tests::process::signal_process;
use lb_tests::programs;
use lb_tests::wait::{PATIENCE, wait_for, wait_ok};
use rustix::process::Signal;
use serde_json::Value;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        plain("rotation_under_load_loses_and_tears_no_line", rotation),
        plain("a_worker_that_dies_leaves_whole_lines_and_the_next_one_goes_on", death),
        plain("a_target_that_takes_nothing_is_counted_and_slows_nobody", stuck),
        with("combined_lines_go_to_syslog_and_no_client_writes_lines_of_its_own", &["curl"], syslog),
        plain("an_access_log_that_cannot_be_is_told_with_its_place_and_a_remedy", bad),
    ]
}

fn config(here: &Here, at: SocketAddr, backend: &Backend, log: &str) -> String {
    format!(
        "{}[pool.app]\nbackends = [\"{}\"]\n\
         [service.web]\naddresses = [\"{at}\"]\nmode = \"https\"\ncertificates = [\"lab\"]\npool = \"app\"\n\
         access_log = \"main\"\n[access_log.main]\n{log}\n",
        here.head(""),
        backend.address
    )
}

/// So many requests, one connection a client, `/CLIENT/NUMBER`.
fn load(target: &Target, protocol: Protocol, client: usize, requests: usize) -> Result<()> {
    runtime()?.block_on(async {
        let mut connection = target.connect(protocol).await?;
        for number in 0..requests {
            ensure!(connection.get(&format!("/{client}/{number}")).await?.status == 200);
        }
        Ok(())
    })
}

/// URIs of the lines of these files; each line is whole.
fn uris(folder: &Path, files: &[String]) -> Result<Vec<String>> {
    let mut uris = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        ensure!(text.is_empty() || text.ends_with('\n'), "{file} ends in the midst of a line");
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).with_context(|| format!("{file}: {line:?}"))?;
            ensure!(line["status"] == 200 && line["end"] == "complete" && line["host"] == HOST, "{line}");
            uris.push(line["uri"].as_str().context("no uri")?.to_owned());
        }
    }
    Ok(uris)
}

fn rotation() -> Result<()> {
    const CLIENTS: usize = 4;
    const REQUESTS: usize = 400;
    let (here, at, backend) = (Here::new()?, free_address()?, Backend::start_here("red")?);
    let edge = here.start(&config(&here, at, &backend, "to = \"file\"\npath = \"access.log\""))?;
    let target = here.target(at, HOST)?;
    let (folder, mut files) = (here.folder().to_owned(), vec!["access.log".to_owned()]);
    std::thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (target, protocol) = (&target, [Protocol::Http1, Protocol::Http2][client % 2]);
                scope.spawn(move || load(target, protocol, client, REQUESTS))
            })
            .collect();
        while clients.iter().any(|client| !client.is_finished()) {
            let moved = format!("access.log.{}", files.len());
            if std::fs::rename(folder.join("access.log"), folder.join(&moved)).is_ok() {
                signal_process(edge.id(), Signal::USR1)?;
                files.push(moved);
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        clients.into_iter().try_for_each(|client| client.join().map_err(|_| anyhow::anyhow!("a client"))?)
    })?;
    let all = wait_ok("every line", PATIENCE, || {
        let all = uris(&folder, &files)?;
        ensure!(all.len() >= CLIENTS * REQUESTS, "{} lines", all.len());
        Ok(all)
    })?;
    ensure!(all.len() == CLIENTS * REQUESTS, "{} lines of {}", all.len(), CLIENTS * REQUESTS);
    ensure!(all.iter().collect::<BTreeSet<_>>().len() == all.len(), "a line is there twice");
    ensure!(files.len() > 3, "hardly rotated: {files:?}");
    let metrics = edge.metrics()?;
    ensure!(metrics.sum("bailey_access_log_lines_total", &[("log", "main")]) == all.len() as f64);
    ensure!(metrics.sum("bailey_access_log_dropped_total", &[]) == 0.0);
    Ok(())
}

fn death() -> Result<()> {
    let (here, at, backend) = (Here::new()?, free_address()?, Backend::start_here("red")?);
    let edge = here.start(&config(&here, at, &backend, "to = \"file\"\npath = \"access.log\""))?;
    let target = here.target(at, HOST)?;
    let files = ["access.log".to_owned()];
    let written = |least: usize| {
        wait_ok("lines", PATIENCE, || {
            let all = uris(here.folder(), &files)?;
            ensure!(all.len() >= least, "{} lines", all.len());
            Ok(all.len())
        })
    };
    load(&target, Protocol::Http1, 0, 20)?;
    written(20)?;
    let worker = wait_for("a worker", PATIENCE, || edge.worker())?;
    std::thread::scope(|scope| -> Result<()> {
        let loaded = scope.spawn(|| load(&target, Protocol::Http2, 1, 5_000));
        written(100)?;
        signal_process(worker, Signal::KILL)?;
        ensure!(loaded.join().is_ok_and(|result| result.is_err()), "the connection outlived its worker");
        Ok(())
    })?;
    wait_for("another worker", PATIENCE, || edge.worker().filter(|new| *new != worker))?;
    let before = uris(here.folder(), &files)?.len();
    load(&target, Protocol::Http1, 2, 20)?;
    let after = written(before + 20)?;
    ensure!(after == before + 20, "{before}, then {after}");
    // A reload to another file, and to another format, is in force at once.
    edge.rewrite(&config(&here, at, &backend, "to = \"file\"\npath = \"other.log\"\nformat = \"common\""))?;
    edge.done(&["reload"])?;
    load(&target, Protocol::Http1, 3, 3)?;
    wait_ok("the other file", PATIENCE, || {
        let text = std::fs::read_to_string(here.file("other.log"))?;
        ensure!(text.lines().count() == 3 && text.contains("\"GET /3/0 HTTP/1.1\" 200 "), "{text}");
        Ok(())
    })?;
    ensure!(uris(here.folder(), &files)?.len() == after);
    Ok(())
}

fn dropped(edge: &Edge<'_>, cause: &str) -> Result<f64> {
    Ok(edge.metrics()?.sum("bailey_access_log_dropped_total", &[("log", "main"), ("cause", cause)]))
}

fn stuck() -> Result<()> {
    let (here, at, backend) = (Here::new()?, free_address()?, Backend::start_here("red")?);
    // A pipe that nobody reads stands where the file should be.
    let pipe = here.file("access.log");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
    let edge = here.start(&config(&here, at, &backend, "to = \"file\"\npath = \"access.log\""))?;
    let target = here.target(at, HOST)?;
    load(&target, Protocol::Http2, 0, 200)?;
    wait_ok("they are counted", PATIENCE, || {
        ensure!(dropped(&edge, "write")? == 200.0);
        Ok(())
    })?;
    ensure!(edge.log().contains("lines of an access log are lost"), "{}", edge.log());
    Ok(())
}

fn syslog() -> Result<()> {
    let (here, at, backend) = (Here::new()?, free_address()?, Backend::start_here("red")?);
    let server = UnixDatagram::bind(here.file("syslog"))?;
    server.set_read_timeout(Some(PATIENCE))?;
    let log = "to = \"syslog\"\nsocket = \"syslog\"\nformat = \"combined\"\nfacility = \"local3\"\ntag = \"edge\"\n";
    let _edge = here.start(&config(&here, at, &backend, log))?;
    let url = format!("https://{HOST}:{}/a?size=7", at.port());
    let agent = "x\" 200 1 \"-\" \"\t\\";
    programs::curl(at, &[HOST], &here.ca(), &["--http1.1", "-A", agent, "-e", "http://from.test/", &url])?;
    let mut bytes = [0; 4096];
    let n = server.recv(&mut bytes).context("no message")?;
    let text = String::from_utf8(bytes[..n].to_vec())?;
    let (head, line) = text.split_once("]: ").context("no tag")?;
    ensure!(head.starts_with("<158>") && head.contains(" edge["), "{text:?}");
    ensure!(line.starts_with("127.0.0.1 - - [") && line.contains("] \"GET /a?size=7 HTTP/1.1\" 200 7 "), "{line:?}");
    ensure!(line.ends_with(r#" "http://from.test/" "x\" 200 1 \"-\" \"\t\\""#), "{line:?}");
    Ok(())
}

fn bad() -> Result<()> {
    let (here, at, backend) = (Here::new()?, free_address()?, Backend::start_here("red")?);
    for (log, code, words) in [
        ("to = \"file\"\npath = \"none/access.log\"", 1, ["there can be no file", "make its directory first"]),
        ("to = \"sylog\"", 1, ["sylog", "did you mean \"syslog\"?"]),
        ("to = \"stdout\"\nfields = { a = \"${request.hots}\" }", 1, ["request.hots", "request.host"]),
        ("to = \"stdout\"\nfields = { a = \"${header('cookie')}\" }", 0, ["credentials", "leave cookies"]),
    ] {
        let outcome = here.check(&config(&here, at, &backend, log))?;
        let said = (outcome.stderr.clone() + &outcome.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(outcome.code == Some(code) && words.iter().all(|word| said.contains(word)), "{log}: {said}");
    }
    Ok(())
}
