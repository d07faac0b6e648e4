//! The lab itself holds: without this, every other file's verdict would be worth nothing.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use lb_tests::backend::{Backend, pattern_bytes, sha256};
use lb_tests::client::{Protocol, Target};
use lb_tests::flood::{self, Generator, Meter, Sink, Traffic};
use lb_tests::foreign;
use lb_tests::forwarding::sysctl;
use lb_tests::harness::{lab, main as run, plain};
use lb_tests::lab::{CLIENT4, CLIENT6, EDGE4, HOST, Lab};
use lb_tests::lines::{Connections, Lines, datagram};
use lb_tests::netns::runtime;
use lb_tests::wait::{PATIENCE, wait_ok};

fn main() -> ExitCode {
    run(vec![
        lab("the_client_reaches_the_edge_and_the_edge_its_backends", cables_carry),
        lab("a_dropped_lab_leaves_no_namespace", nothing_is_left),
        lab("a_foreign_program_sits_on_the_interface_until_it_is_dropped", foreign_program),
        lab("a_generator_sends_what_it_says_and_sound_frames_are_taken", generator),
        lab("both_families_lead_through_the_edge_and_lines_say_who_answers", lines),
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

fn generator() -> Result<()> {
    const FRAMES: u32 = 200_000;
    let lab = Lab::forwarding(0)?;
    let mut generator = Generator::open(&lab.client, "eth0")?;
    let mac = flood::mac(&lab.edge, "wan")?;
    let targets: [(IpAddr, SocketAddr); 2] =
        [([10, 64, 0, 0].into(), (EDGE4, 81).into()), ("fd64::".parse()?, "[fd77::1]:81".parse()?)];
    let sink = Sink::attach(&lab.edge, "wan")?;
    let meter = Meter::start(&lab.edge, "wan")?;
    for (from, to) in targets {
        generator.aim(&Traffic::syns(mac, from, to))?;
        generator.send(FRAMES, None)?;
    }
    // What finds the ring full is lost, as on a wire.
    let (_, runs) = wait_ok("the frames", PATIENCE, || {
        let (time, runs) = meter.read()?;
        ensure!(runs >= u64::from(FRAMES) * 2 * 9 / 10, "{runs} of {} frames came", FRAMES * 2);
        Ok((time, runs))
    })?;
    ensure!(runs <= u64::from(FRAMES) * 2 + 1000, "{runs} frames came");
    drop((meter, sink));
    // The kernel checks their sums: nobody listens, so each SYN that is sound is answered with a reset.
    let _passes = foreign::attach(&lab.edge, "wan")?;
    lab.edge.ip(&format!("route add default via {CLIENT4}"))?;
    lab.edge.ip(&format!("-6 route add default via {CLIENT6}"))?;
    for (from, to) in targets {
        let before = resets(&lab)?;
        generator.aim(&Traffic { flows: Some(100), ..Traffic::syns(mac, from, to) })?;
        generator.send(1000, None)?;
        wait_ok("resets", PATIENCE, || {
            let resets = resets(&lab)? - before;
            ensure!(resets >= 900, "{resets} resets for 1000 SYNs from {from}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Resets that the edge's TCP has sent.
fn resets(lab: &Lab) -> Result<u64> {
    let text = lab.edge.output("cat", &["/proc/self/net/snmp"])?;
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let at = names.split(' ').position(|name| name == "OutRsts").context("no OutRsts")?;
    Ok(values.split(' ').nth(at).context("no value")?.parse()?)
}

fn lines() -> Result<()> {
    let lab = Lab::forwarding(1)?;
    let addresses = [lab.backend(0, 7000), lab.backend6(0, 7000)];
    // No edge runs here: the host leads from cable to cable.
    sysctl(&lab.edge, "net.ipv4.ip_forward", 1)?;
    sysctl(&lab.edge, "net.ipv6.conf.all.forwarding", 1)?;
    lab.client.ip(&format!("route add 10.78.0.0/16 via {EDGE4}"))?;
    lab.client.ip("-6 route add fd78::/16 via fd77::1")?;
    let server = Lines::start(&lab.backends[0], "one", &addresses)?;
    for to in addresses {
        let mut connections = Connections::open(&lab.client, to, 3)?;
        for answer in connections.ask(PATIENCE).into_iter().chain([Some(datagram(&lab.client, to)?)]) {
            let answer = answer.context("a connection broke")?;
            ensure!(answer.name == "one" && [CLIENT4.into(), IpAddr::from(CLIENT6)].contains(&answer.peer.ip()));
        }
    }
    let mut connections = Connections::open(&lab.client, addresses[0], 2)?;
    drop(server);
    ensure!(connections.ask(PATIENCE) == [None, None], "nobody is there any more");
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
