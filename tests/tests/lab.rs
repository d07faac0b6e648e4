//! The lab itself holds: without this, every other file's verdict would be worth nothing.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use lb_tests::backend::{Backend, pattern_bytes, sha256};
use lb_tests::client::{Protocol, Target};
use lb_tests::foreign;
use lb_tests::harness::{lab, main as run, plain};
use lb_tests::lab::{EDGE4, HOST, Lab};
use lb_tests::netns::runtime;

fn main() -> ExitCode {
    run(vec![
        lab("the_client_reaches_the_edge_and_the_edge_its_backends", cables_carry),
        lab("a_dropped_lab_leaves_no_namespace", nothing_is_left),
        lab("a_foreign_program_sits_on_the_interface_until_it_is_dropped", foreign_program),
        plain("a_backend_tells_and_records_what_it_saw", backend_records),
    ])
}

fn cables_carry() -> Result<()> {
    let lab = Lab::new(2)?;
    lab.client.output("ping", &["-c", "1", "-W", "2", &EDGE4.to_string()])?;
    lab.client.output("ping", &["-c", "1", "-W", "2", "fd77::1"])?;
    for number in 0..2 {
        let address = lab.backend(number, 8443);
        let tls = lab.identity.server()?;
        let backend = Backend::start_tls(&lab.backends[usize::from(number)], "b", address, tls)?;
        let target = Target { address, host: HOST.into(), roots: lab.authority.roots()? };
        let reply = lab.edge.run_async(|| async { target.get(Protocol::Http1, "/x?status=418").await })?;
        ensure!(reply.status == 418 && backend.count() == 1, "{reply:?}");
    }
    Ok(())
}

fn nothing_is_left() -> Result<()> {
    let lab = Lab::new(1)?;
    let name = lab.name.clone();
    let spaces = || std::fs::read_dir("/run/netns").map(|all| all.flatten().map(|e| e.file_name()).collect::<Vec<_>>());
    let ours =
        |all: &[std::ffi::OsString]| all.iter().filter(|space| space.to_string_lossy().starts_with(&name)).count();
    ensure!(ours(&spaces()?) == 3);
    drop(lab);
    ensure!(ours(&spaces()?) == 0);
    Ok(())
}

fn foreign_program() -> Result<()> {
    let lab = Lab::new(0)?;
    let attached = foreign::attach(&lab.edge, "wan")?;
    let shown = || lab.edge.output("ip", &["-d", "link", "show", "dev", "wan"]);
    ensure!(shown()?.contains("xdp") && shown()?.contains(foreign::NAME), "{}", shown()?);
    drop(attached);
    ensure!(!shown()?.contains("prog/xdp"), "{}", shown()?);
    Ok(())
}

fn backend_records() -> Result<()> {
    let backend = Backend::start_here("one")?;
    let address: SocketAddr = backend.address;
    let body = pattern_bytes(100_000);
    let told = runtime()?.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await?;
        let (mut send, drive) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
        tokio::spawn(drive);
        let request = http::Request::post("/up?status=201").header("host", "x").header("x-mark", "7");
        let request = request.body(http_body_util::Full::new(bytes::Bytes::from(body.clone())))?;
        let response = send.send_request(request).await?;
        ensure!(response.status() == 201);
        let text = http_body_util::BodyExt::collect(response.into_body()).await?.to_bytes();
        Ok(serde_json::from_slice::<serde_json::Value>(&text)?)
    })?;
    ensure!(told["backend"] == "one" && told["body_bytes"] == 100_000, "{told}");
    ensure!(told["body_sha256"] == sha256(&body).as_str(), "{told}");
    let seen = backend.seen();
    ensure!(seen.len() == 1 && seen[0].line == "POST /up?status=201" && seen[0].headers["x-mark"] == "7", "{seen:?}");
    Ok(())
}
