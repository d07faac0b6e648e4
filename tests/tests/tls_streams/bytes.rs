//! Mode `tls`: the edge ends TLS, and the bytes go on in clear text, over TLS, or after a PROXY header.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use lb_tests::backend::pattern_bytes;
use lb_tests::edge::Edge;
use lb_tests::harness::{Test, plain, with};
use lb_tests::here::{Here, free_address};
use lb_tests::lab::HOST;
use lb_tests::process::Process;
use lb_tests::programs::curl;
use lb_tests::wait::{PATIENCE, wait_ok};

use lb_tests::peers::haproxy;

use crate::peers::{Echo, failed, talk};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("bytes_reach_a_backend_in_clear_text_or_over_tls_as_name_and_protocol_say", &["openssl"], routed),
        plain("eight_mebibytes_pass_an_edge_that_ends_tls_both_ways", bulk),
        with("haproxy_behind_proxy_v2_knows_client_service_and_name", &["haproxy"], behind_haproxy),
        with("plain_http_on_a_tls_port_of_bytes_is_told_so", &["curl"], plain_http),
        plain("a_backend_that_is_gone_ends_the_connection_and_is_counted", gone),
    ]
}

/// A clear server `red`, a TLS server `blue` for protocol `mqtt`, and haproxy in front of `red` for one name.
struct Site {
    here: Here,
    edge: Edge<'static>,
    at: SocketAddr,
    haproxy: Option<Process>,
    _servers: [Echo; 2],
}

impl Site {
    fn new(proxied: bool) -> Result<Self> {
        let (here, at, proxy) = (Here::new()?, free_address()?, free_address()?);
        let red = Echo::clear("red")?;
        let blue = Echo::tls("blue", &here.authority.issue(here.folder(), "blue", &["blue.test"])?, &["mqtt"])?;
        let haproxy = proxied.then(|| haproxy(here.folder(), proxy, red.address)).transpose()?;
        let config = format!(
            "{}[pool.red]\nbackends = [\"{}\"]\n\
             [pool.blue]\nbackends = [\"{}\"]\n\
             [pool.blue.tls]\nca = \"ca.pem\"\nserver_name = \"blue.test\"\nalpn = [\"mqtt\"]\n\
             [pool.proxied]\nbackends = [\"{proxy}\"]\nproxy_protocol = \"v2\"\n\
             [service.mail]\naddresses = [\"{at}\"]\nmode = \"tls\"\ncertificates = [\"lab\"]\n\
             alpn = [\"imap\", \"mqtt\"]\npool = \"red\"\n\
             [[service.mail.routes]]\nalpn = [\"mqtt\"]\npool = \"blue\"\n\
             [[service.mail.routes]]\nhosts = [\"proxied.bailey.test\"]\npool = \"proxied\"\n",
            here.head(""),
            red.address,
            blue.address
        );
        let edge = here.start(&config)?;
        Ok(Self { here, edge, at, haproxy, _servers: [red, blue] })
    }

    fn talk(&self, host: &str, alpn: &[&str], bytes: &[u8]) -> Result<(Vec<u8>, SocketAddr)> {
        talk(&self.here.target(self.at, host)?, alpn, bytes)
    }
}

fn routed() -> Result<()> {
    let site = Site::new(false)?;
    for (alpn, want) in [
        (&[][..], "red -"),
        (&["imap"], "red -"),
        (&["mqtt"], "blue mqtt"),
        // The service's order counts.
        (&["mqtt", "imap"], "red -"),
        (&["smtp", "mqtt"], "blue mqtt"),
    ] {
        let back = String::from_utf8(site.talk(HOST, alpn, b"hello")?.0)?;
        ensure!(back == format!("hello{want}"), "{alpn:?}: {back}");
    }
    let said = site.here.s_client(site.at, &["-alpn", "smtp"])?;
    ensure!(said.code != Some(0) && said.has("no application protocol"), "{}", said.text);
    ensure!(failed(&site.edge, "mail", "no_shared_protocol")? == 1.0);
    Ok(())
}

fn bulk() -> Result<()> {
    let site = Site::new(false)?;
    let bytes = pattern_bytes(8 << 20);
    for (alpn, want) in [(&[][..], "red -"), (&["mqtt"], "blue mqtt")] {
        let back = site.talk(HOST, alpn, &bytes)?.0;
        let (echoed, last) = back.split_at(bytes.len().min(back.len()));
        ensure!(echoed == bytes, "{alpn:?}: {} bytes came back, not the same", echoed.len());
        ensure!(last == want.as_bytes(), "{alpn:?}, at the end: {last:?}");
    }
    Ok(())
}

fn behind_haproxy() -> Result<()> {
    let site = Site::new(true)?;
    let (back, local) = site.talk("proxied.bailey.test", &[], b"hello")?;
    ensure!(back == b"hellored -", "{back:?}");
    let told = format!("{local} {} proxied.bailey.test", site.at);
    wait_ok("haproxy's log of the connection", PATIENCE, || {
        let log = site.haproxy.as_ref().map(Process::log).unwrap_or_default();
        ensure!(log.lines().any(|line| line == told), "{told} is not in\n{log}");
        Ok(())
    })
}

fn plain_http() -> Result<()> {
    let site = Site::new(false)?;
    let said = curl(site.at, &[], &site.here.ca(), &[&format!("http://{}/secret", site.at)])?;
    ensure!(said.status(400) && said.text.to_lowercase().contains("https"), "{}", said.text);
    ensure!(failed(&site.edge, "mail", "plain_http")? == 1.0);
    Ok(())
}

fn gone() -> Result<()> {
    // Nobody listens where haproxy would.
    let site = Site::new(false)?;
    ensure!(site.talk("proxied.bailey.test", &[], b"hello").is_err(), "an end in order, and there was no backend");
    let labels = [("pool", "proxied"), ("kind", "connect")];
    wait_ok("the failure to be counted", PATIENCE, || {
        let count = site.edge.metrics()?.sum("bailey_backend_failures_total", &labels);
        ensure!(count >= 1.0, "counted {count}");
        Ok(())
    })
}
