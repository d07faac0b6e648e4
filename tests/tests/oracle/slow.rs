//! Clients that take their time: slowhttptest, and bodies that are too long or too slow.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_tests::backend::Backend;
use lb_tests::harness::{Test, plain, with};
use lb_tests::programs::run_for;
use lb_tests::wait::{PATIENCE, wait_for};

use crate::site::Site;

/// Connections of slowhttptest.
const SLOW: &str = "40";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("slow_headers_are_cut_and_others_served", &["slowhttptest"], || slow(&["-H"], "header")),
        with("slow_bodies_are_cut_and_others_served", &["slowhttptest"], || slow(&["-B", "-s", "8192"], "body")),
        with("slow_readers_are_cut_and_others_served", &["slowhttptest"], || {
            slow(&["-X", "-w", "1", "-y", "1", "-n", "1", "-z", "1", "-k", "1"], "send")
        }),
        plain("bodies_over_the_limit_are_refused", too_long),
        plain("bodies_that_stop_are_refused", silent),
        plain("connections_end_in_order_after_their_requests", capped),
    ]
}

fn slow(mode: &[&str], what: &str) -> Result<()> {
    let backend = Backend::start_here("app")?;
    let site = Site::new(
        backend.address,
        "timeouts.header = \"2s\"\n[service.web.http]\nmin_rate = 1000\nmin_rate_grace = \"2s\"\n",
    )?;
    // More than the kernel buffers for a reader that does not read.
    let url = format!("http://{}/?size=20000000", site.at);
    let words = [mode, &["-c", SLOW, "-r", SLOW, "-i", "1", "-l", "15", "-p", "5", "-u", &url]].concat();
    let others = std::thread::scope(|scope| -> Result<u32> {
        let attack = scope.spawn(|| run_for(30, "slowhttptest", &words, ""));
        let mut served = 0;
        while !attack.is_finished() {
            let said = site.exchange(b"GET / HTTP/1.1\r\nHost: o\r\nConnection: close\r\n\r\n")?;
            ensure!(said.starts_with(b"HTTP/1.1 200 "), "{:?}", String::from_utf8_lossy(&said));
            served += 1;
            std::thread::sleep(Duration::from_millis(100));
        }
        let said = attack.join().ok().context("slowhttptest")??;
        ensure!(said.code == Some(0), "{said:?}");
        Ok(served)
    })?;
    ensure!(others > 0, "nobody was served meanwhile");
    let expected: f64 = SLOW.parse()?;
    match what {
        "body" => site.counts("bailey_http_rejected_total", &[("reason", "body_slow")], expected)?,
        "header" => site.counts("bailey_client_timeouts_total", &[("deadline", what)], expected)?,
        // How much a kernel takes for a reader that does not read is its own affair.
        deadline => {
            wait_for("a slow reader to be cut", PATIENCE, || {
                let scrape = site.edge.metrics().ok()?;
                (scrape.sum("bailey_client_timeouts_total", &[("deadline", deadline)]) > 0.0).then_some(())
            })?;
        }
    }
    site.counts("bailey_connections_active", &[], 0.0)
}

fn too_long() -> Result<()> {
    let backend = Backend::start_here("app")?;
    let site = Site::new(backend.address, "[service.web.http]\nmax_body = 10\n")?;
    let post = "POST / HTTP/1.1\r\nHost: o\r\nConnection: close\r\n";
    for (rest, code) in [
        ("Content-Length: 10\r\n\r\n0123456789", "200"),
        ("Content-Length: 11\r\n\r\n01234567890", "413"),
        ("Content-Length: 1000000000000\r\nExpect: 100-continue\r\n\r\n", "413"),
        ("Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n", "200"),
        ("Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n1\r\n0\r\n0\r\n\r\n", "413"),
    ] {
        let said = String::from_utf8_lossy(&site.exchange((post.to_owned() + rest).as_bytes())?).into_owned();
        ensure!(said.starts_with(&format!("HTTP/1.1 {code} ")), "{rest:?}: {said}");
    }
    site.counts("bailey_http_rejected_total", &[("reason", "body_size")], 3.0)
}

fn silent() -> Result<()> {
    let backend = Backend::start_here("app")?;
    let site = Site::new(backend.address, "[service.web.http]\nbody_timeout = \"1s\"\n")?;
    let began = Instant::now();
    let said = site.exchange(b"POST / HTTP/1.1\r\nHost: o\r\nContent-Length: 10\r\n\r\nabc")?;
    ensure!(said.starts_with(b"HTTP/1.1 408 "), "{:?}", String::from_utf8_lossy(&said));
    ensure!(began.elapsed() >= Duration::from_millis(900), "after {:?}", began.elapsed());
    Ok(())
}

fn capped() -> Result<()> {
    let backend = Backend::start_here("app")?;
    let site = Site::new(backend.address, "[service.web.http]\nmax_requests = 2\n")?;
    let get = b"GET / HTTP/1.1\r\nHost: o\r\n\r\n";
    let mut stream = site.connect()?;
    stream.write_all(get)?;
    let mut first = [0; 12];
    stream.read_exact(&mut first)?;
    ensure!(&first == b"HTTP/1.1 200", "{first:?}");
    stream.write_all(get)?;
    let mut rest = String::new();
    stream.read_to_string(&mut rest).context("the edge does not close")?;
    ensure!(rest.matches("HTTP/1.1 200").count() == 1 && rest.to_lowercase().contains("connection: close"), "{rest}");
    // By age, when nobody asks for anything.
    let site = Site::new(backend.address, "[service.web.http]\nmax_age = \"2s\"\n")?;
    let began = Instant::now();
    let said = site.exchange(get)?;
    ensure!(said.starts_with(b"HTTP/1.1 200 ") && began.elapsed() > Duration::from_millis(1900));
    Ok(())
}
