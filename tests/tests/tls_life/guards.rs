//! Handshakes that cost more than they bring: slow ones, many of one source, and a crowd beside connections that work.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Result, ensure};
use lb_tests::client::Protocol;
use lb_tests::harness::{Test, plain};
use lb_tests::lab::HOST;
use lb_tests::netns::runtime;
use lb_tests::wait::{PATIENCE, wait_ok};

use crate::site::{Site, failed, failures};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        plain("a_slow_client_hello_ends_at_the_deadline_and_what_is_no_tls_at_once", slow),
        plain("one_source_cannot_have_every_handshake", one_source),
        plain("connections_are_served_beside_a_crowd_of_handshakes", crowd),
    ]
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Whether the edge ends it.
fn ended(mut stream: TcpStream) -> bool {
    loop {
        // A reset is an end, too; that nothing came in time is none.
        match stream.read(&mut [0; 64]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

fn slow() -> Result<()> {
    let site = Site::new("timeouts.handshake = \"1s\"", "", |_| Ok(()))?;
    let mut begun = connect(site.at)?;
    begun.write_all(&[22, 3, 1, 2, 0, 1, 0])?;
    ensure!(ended(begun), "half a ClientHello is waited for without end");
    let mut strange = connect(site.at)?;
    strange.write_all(b"\0\0\0\0")?;
    ensure!(ended(strange), "what is no TLS is kept");
    let (timeout, not_tls) = (failed(&site.edge, "timeout")?, failed(&site.edge, "not_tls")?);
    ensure!((timeout, not_tls) == (1.0, 1.0), "{}", failures(&site.edge.metrics()?));
    Ok(())
}

fn one_source() -> Result<()> {
    const MANY: usize = 64;
    let site = Site::new("", "[tls]\nmax_handshakes_per_source = 3\n", |_| Ok(()))?;
    let threads = site.edge.json(&["status"])?["worker"]["threads"].as_array().map_or(0, Vec::len);
    // Bounds are a thread's, and the kernel spreads connections over the threads: more than all have room for.
    let held: Vec<TcpStream> = (0..MANY).map(|_| connect(site.at)).collect::<Result<_>>()?;
    wait_ok("refusals", PATIENCE, || {
        let labels = [("service", "web"), ("reason", "per_source")];
        let refused = site.edge.metrics()?.sum("bailey_tls_handshakes_refused_total", &labels);
        ensure!(refused >= (MANY - 3 * threads) as f64, "{refused} of {MANY} refused, with {threads} threads");
        Ok(())
    })?;
    drop(held);
    wait_ok("room for others", PATIENCE, || {
        let reply = runtime()?.block_on(site.here.target(site.at, HOST)?.get(Protocol::Http1, "/"))?;
        ensure!(reply.status == 200);
        Ok(())
    })
}

fn crowd() -> Result<()> {
    let site = Site::new("", "[tls]\nhandshakes_per_turn = 1\n", |_| Ok(()))?;
    let target = site.here.target(site.at, HOST)?;
    runtime()?.block_on(async {
        let mut established = target.connect(Protocol::Http1).await?;
        let mut crowd = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let target = target.clone();
            crowd.spawn(async move { target.get(Protocol::Http1, "/").await.map(|reply| reply.status) });
        }
        let mut answered = 0;
        while !crowd.is_empty() {
            ensure!(established.get("/").await?.status == 200);
            answered += 1;
            while let Some(done) = crowd.try_join_next() {
                ensure!(done?? == 200);
            }
        }
        ensure!(answered > 1, "the crowd was served first");
        Ok(())
    })?;
    ensure!(site.edge.metrics()?.sum("bailey_tls_handshakes_queued_total", &[]) > 0.0, "nobody waited for a turn");
    wait_ok("the crowd to be gone", PATIENCE, || {
        let scrape = site.edge.metrics()?;
        ensure!(scrape.sum("bailey_tls_handshakes_active", &[]) == 0.0);
        ensure!(scrape.sum("bailey_tls_handshakes_waiting", &[]) == 0.0);
        Ok(())
    })
}
