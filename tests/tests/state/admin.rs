//! The admin sockets: one that changes nothing, and both under garbage, too much, and crowds that say nothing.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_tests::edge::{Outcome, cli_command};
use lb_tests::harness::{Test, plain};
use lb_tests::need::binary;

use crate::site::{Site, refused};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        plain("the_read_only_socket_answers_and_changes_nothing", read_only),
        plain("garbage_and_too_much_get_a_refusal_and_have_no_effect", garbage),
        plain("a_thousand_idle_connections_keep_no_operator_out", crowd),
    ]
}

fn cli(socket: &Path, arguments: &[&str]) -> Result<Outcome> {
    cli_command(Command::new(binary("bailey")?).arg("--socket").arg(socket).args(arguments))
}

fn read_only() -> Result<()> {
    let site = Site::new()?;
    let admin = "read_only_socket = \"look.sock\"\nread_only_mode = \"0666\"\n";
    let edge = site.here.start(&site.config_with("state = \"state\"\n", admin, ""))?;
    let socket = site.here.file("look.sock");
    let mode =
        |name: &str| -> Result<u32> { Ok(std::fs::metadata(site.here.file(name))?.permissions().mode() & 0o777) };
    ensure!((mode("look.sock")?, mode("admin.sock")?) == (0o666, 0o660));
    for verb in [&["status"][..], &["pool", "show", "app"], &["history"], &["diff"], &["service", "list"]] {
        let outcome = cli(&socket, verb)?;
        ensure!(outcome.code == Some(0), "{verb:?}: {outcome:?}");
    }
    let file = site.here.file("changes");
    std::fs::write(&file, "pool drain app 127.0.0.1:8\n")?;
    let path = file.to_str().context("a path")?;
    for verb in [
        &["pool", "add", "app", "127.0.0.1:8"][..],
        &["reset"],
        &["reload"],
        &["cert", "reload"],
        &["session", "clear", "app", "--all"],
        &["deny", "add", "192.0.2.0/24"],
        &["apply", path],
    ] {
        let outcome = cli(&socket, verb)?;
        ensure!(outcome.code == Some(1) && outcome.stderr.contains("changes nothing"), "{verb:?}: {outcome:?}");
    }
    ensure!(edge.json(&["history"])?["last"] == 0);
    edge.done(&["pool", "add", "app", "127.0.0.1:8"])?;
    drop(edge);
    ensure!(!socket.exists(), "it goes with the daemon");
    Ok(())
}

/// What is answered to these bytes, within the daemon's deadlines.
fn said(socket: &Path, bytes: &[u8]) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    // It may be cut in the midst.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn garbage() -> Result<()> {
    let site = Site::new()?;
    let edge = site.here.start(&site.config())?;
    let socket = site.here.file("admin.sock");
    let before = edge.json(&["diff"])?;
    let post = |path: &str, length: usize, body: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: bailey\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
    };
    let long = "x".repeat(1 << 21);
    for (bytes, code) in [
        (b"\x16\x03\x01\x00\xffgarbage\r\n\r\n".to_vec(), "400"),
        (vec![0; 4096], "400"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20)).into_bytes(), "4"),
        (format!("GET /v1/status HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(1 << 20)).into_bytes(), "431"),
        (post("/v1/pools/app", 9, "{\"addres\""), "400"),
        (post("/v1/pools/app", 4 << 20, ""), "413"),
        (post("/v1/changes", long.len(), &long), "413"),
        (post("/v1/changes", 15, "{\"changes\":[{}]"), "400"),
        (post("/v1/nothing", 2, "{}"), "404"),
        (b"DELETE /v1/pools/app HTTP/1.1\r\nhost: b\r\n\r\n".to_vec(), "405"),
    ] {
        let answer = said(&socket, &bytes)?;
        let head = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        ensure!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{head:?}: {:?}", answer.lines().next());
    }
    // More changes at once than may be.
    let change = "{\"kind\":\"reset\",\"pool\":null},";
    let many = format!("{{\"changes\":[{}]}}", change.repeat(20_000).trim_end_matches(','));
    let answer = said(&socket, &post("/v1/changes", many.len(), &many))?;
    ensure!(answer.contains(" 413 ") && answer.contains("too many"), "{answer}");
    ensure!(edge.json(&["diff"])? == before && edge.json(&["history"])?["last"] == 0);
    site.serves()
}

fn crowd() -> Result<()> {
    let site = Site::new()?;
    let edge = site.here.start(&site.config())?;
    let socket = site.here.file("admin.sock");
    let mut idle = Vec::new();
    for n in 0..1000 {
        let mut stream = UnixStream::connect(&socket).with_context(|| format!("connection {n}"))?;
        if n % 2 == 0 {
            let _ = stream.write_all(b"GET /v1/sta");
        }
        idle.push(stream);
    }
    let start = Instant::now();
    for _ in 0..5 {
        edge.done(&["pool", "list"])?;
    }
    edge.done(&["pool", "add", "app", "127.0.0.1:8"])?;
    ensure!(start.elapsed() < Duration::from_secs(10), "the operator waits: {:?}", start.elapsed());
    site.serves()?;
    let metrics = edge.metrics()?;
    let open = metrics.sum("bailey_admin_connections", &[("socket", "admin")]);
    ensure!(open <= 32.0, "{open} are open");
    let turned = metrics.sum("bailey_admin_turned_away_total", &[("socket", "admin"), ("cause", "idle")]);
    ensure!(turned > 900.0, "{turned} were closed to make room");
    drop(idle);
    refused(&edge, &["pool", "drain", "app", "127.0.0.1:9"], &["no backend"])
}
