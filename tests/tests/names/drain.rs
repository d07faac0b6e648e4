//! `bailey pool drain --wait`: what is in flight has its time, and is cut when that is over.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt, future};
use lb_tests::backend::Backend;
use lb_tests::client::{Protocol, Target, within};
use lb_tests::edge::{Edge, cli_command};
use lb_tests::harness::{Test, plain, with};
use lb_tests::here::{Here, free_address};
use lb_tests::lab::HOST;
use lb_tests::need::binary;
use lb_tests::netns::runtime;
use lb_tests::wait::wait_ok;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::site::{LONG, servers};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        plain("a_hundred_websockets_have_their_time_and_are_cut", websockets),
        plain("a_drain_ends_as_soon_as_nothing_is_in_flight", soon),
        with("no_request_fails_while_backends_are_drained_and_taken_back", &["nginx", "h2load"], load),
    ]
}

type Socket = WebSocketStream<TlsStream<TcpStream>>;

async fn open(target: &Target) -> Result<Socket> {
    let stream = target.tls(&["http/1.1"]).await?;
    let (socket, _) = tokio_tungstenite::client_async(format!("wss://{}/chat", target.host), stream).await?;
    Ok(socket)
}

async fn echoes(socket: &mut Socket) -> Result<()> {
    socket.send(Message::text("still there?")).await?;
    let back = socket.next().await.context("it ended")??;
    ensure!(back.to_text()? == "still there?");
    Ok(())
}

fn start(here: &Here, at: SocketAddr, backends: &[SocketAddr]) -> Result<Edge<'static>> {
    let list: Vec<String> = backends.iter().map(|backend| format!("\"{backend}\"")).collect();
    here.start(&format!(
        "{}[service.web]\naddresses = [\"{at}\"]\nmode = \"https\"\ncertificates = [\"lab\"]\npool = \"app\"\n\
         [pool.app]\nbackends = [{}]\n",
        here.head(""),
        list.join(", ")
    ))
}

/// Tunnels that are open to a backend.
fn tunnels(edge: &Edge, backend: SocketAddr) -> Result<u64> {
    let view = edge.json(&["pool", "show", "app"])?;
    let address = backend.to_string();
    let all = view["backends"].as_array().context("no backends")?;
    let one = all.iter().find(|one| one["address"] == *address).context("no such backend")?;
    one["tunnels"].as_u64().context("no count")
}

fn websockets() -> Result<()> {
    let (here, at) = (Here::new()?, free_address()?);
    let (leaving, staying) = (Backend::start_here("leaving")?, Backend::start_here("staying")?);
    let edge = start(&here, at, &[leaving.address, staying.address])?;
    let target = here.target(at, HOST)?;
    let (from, to) = (leaving.address.to_string(), staying.address);
    // Room for all of the first hundred on one backend.
    edge.done(&["pool", "disable", "app", &to.to_string()])?;
    runtime()?.block_on(within("a drain of a hundred WebSockets", async {
        let mut going = future::try_join_all((0..100).map(|_| open(&target))).await?;
        future::try_join_all(going.iter_mut().map(echoes)).await?;
        edge.done(&["pool", "enable", "app", &to.to_string()])?;
        ensure!(tunnels(&edge, leaving.address)? == 100);
        let socket = here.file("admin.sock");
        let address = from.clone();
        let drain = std::thread::spawn(move || {
            let mut command = Command::new(binary("bailey")?);
            let began = Instant::now();
            command.arg("--socket").arg(socket).args(["pool", "drain", "app", &address, "--wait", "--timeout", "6s"]);
            anyhow::Ok((cli_command(&mut command)?, began.elapsed()))
        });
        wait_ok("the drain", LONG, || {
            let view = edge.done(&["pool", "show", "app"])?;
            ensure!(
                view.contains("draining (") && view.contains(" left)") && view.contains("100 (100 tunnels)"),
                "{view}"
            );
            Ok(())
        })?;
        // In their time they work as before, and new ones go to the other backend.
        future::try_join_all(going.iter_mut().map(echoes)).await?;
        let mut others = future::try_join_all((0..10).map(|_| open(&target))).await?;
        ensure!(tunnels(&edge, to)? == 10);
        // Every one of them ends, by itself or when it says something.
        for socket in &mut going {
            while let Some(Ok(_)) = socket.next().await {}
        }
        let (outcome, took) = drain.join().map_err(|_| anyhow::anyhow!("panicked"))??;
        ensure!(outcome.code == Some(0), "{outcome:?}");
        ensure!(
            outcome.stdout.contains("drained") && outcome.stdout.contains("0 requests and 100 tunnels were cut"),
            "{outcome:?}"
        );
        ensure!(outcome.stderr.contains("0 requests, 100 tunnels left; cut in"), "{outcome:?}");
        ensure!(took >= Duration::from_secs(6) && took < Duration::from_secs(15), "{took:?}");
        future::try_join_all(others.iter_mut().map(echoes)).await?;
        // Removed: the pool's own time holds, and whoever is there has it.
        edge.done(&["pool", "remove", "app", &to.to_string()])?;
        future::try_join_all(others.iter_mut().map(echoes)).await?;
        Ok(())
    }))?;
    let metrics = edge.metrics()?;
    let cut = |kind| metrics.sum("bailey_backend_drain_cut_total", &[("backend", &from), ("kind", kind)]);
    ensure!((cut("tunnel"), cut("request")) == (100.0, 0.0));
    ensure!(metrics.sum("bailey_backend_failures_total", &[]) == 0.0);
    ensure!(metrics.sum("bailey_backend_connections_open", &[("backend", &from)]) == 0.0);
    Ok(())
}

fn soon() -> Result<()> {
    let (here, at) = (Here::new()?, free_address()?);
    let (a, b) = (Backend::start_here("a")?, Backend::start_here("b")?);
    let edge = start(&here, at, &[a.address, b.address])?;
    let target = here.target(at, HOST)?;
    runtime()?.block_on(within("a drain that ends early", async {
        let mut socket = open(&target).await?;
        let on = if tunnels(&edge, a.address)? == 1 { a.address } else { b.address };
        let socket_file = here.file("admin.sock");
        let drain = std::thread::spawn(move || {
            let mut command = Command::new(binary("bailey")?);
            command.arg("--json").arg("--socket").arg(socket_file);
            cli_command(command.args(["pool", "drain", "app", &on.to_string(), "--wait"]))
        });
        wait_ok("the drain", LONG, || {
            let view = edge.done(&["pool", "show", "app"])?;
            ensure!(view.contains("draining"), "{view}");
            Ok(())
        })?;
        socket.close(None).await?;
        drop(socket);
        let outcome = drain.join().map_err(|_| anyhow::anyhow!("panicked"))??;
        let said: serde_json::Value = serde_json::from_str(&outcome.stdout).context(outcome.stdout.clone())?;
        ensure!(outcome.code == Some(0) && said["cut_tunnels"] == 0 && said["cut_requests"] == 0, "{outcome:?}");
        // What asks is served all the while, by the other one.
        let reply = target.get(Protocol::Http2, "/").await?;
        ensure!(reply.status == 200);
        Ok(())
    }))
}

fn load() -> Result<()> {
    let (here, at) = (Here::new()?, free_address()?);
    let (_nginx, port) = servers(here.folder(), &[1, 2], false)?;
    let backends = [1, 2].map(|n| SocketAddr::from(([127, 0, 0, n], port)));
    let edge = start(&here, at, &backends)?;
    let loaded = std::thread::spawn(move || {
        let (url, duration) = (format!("https://{HOST}:{}/", at.port()), "--duration=4");
        let connect = format!("--connect-to={at}");
        lb_tests::programs::run_for(30, "h2load", &["-c8", "-m8", "-t1", duration, &connect, &url], "")
    });
    let mut drains = 0;
    while !loaded.is_finished() {
        for backend in backends.map(|backend| backend.to_string()) {
            edge.done(&["pool", "drain", "app", &backend, "--wait", "--timeout", "5s"])?;
            edge.done(&["pool", "enable", "app", &backend])?;
            drains += 1;
        }
    }
    let said = loaded.join().map_err(|_| anyhow::anyhow!("panicked"))??;
    ensure!(said.has(" 0 failed, 0 errored, 0 timeout") && said.has(" 0 4xx, 0 5xx"), "{}", said.text);
    ensure!(drains >= 4, "{drains}");
    let metrics = edge.metrics()?;
    ensure!(metrics.sum("bailey_backend_drain_cut_total", &[]) == 0.0);
    println!(
        "{drains} drains under load; {}",
        said.text.lines().find(|line| line.contains("requests:")).unwrap_or_default()
    );
    Ok(())
}
