//! Mode `passthrough`: the name in the ClientHello chooses, TLS is the backend's, bytes arrive as they were sent.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::backend::pattern_bytes;
use lb_tests::client::{DEADLINE, Protocol};
use lb_tests::edge::Edge;
use lb_tests::harness::{Test, plain, with};
use lb_tests::here::{Here, free_address};
use lb_tests::lab::HOST;
use lb_tests::netns::runtime;
use lb_tests::pki::Identity;
use lb_tests::programs::curl;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls_pki_types::ServerName;

use lb_tests::peers::nginx;

use crate::peers::{Echo, failed, talk};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        plain("a_post_quantum_client_hello_byte_by_byte_and_in_many_records_finds_its_backend", pieces),
        with("name_and_protocol_choose_the_backend_and_strangers_are_refused", &["openssl"], names),
        with("nginx_behind_proxy_v2_knows_the_client_and_shows_its_own_certificate", &["nginx"], behind_nginx),
        plain("eight_mebibytes_pass_both_ways_and_a_half_closed_connection_is_answered", bulk),
        with("plain_http_on_a_passthrough_port_is_told_so", &["curl"], plain_http),
    ]
}

/// Two TLS servers, `red` and `blue`, and an edge with the services `pass` (default pool `red`) and `strict` (none).
struct Site {
    here: Here,
    edge: Edge<'static>,
    pass: SocketAddr,
    strict: SocketAddr,
    _servers: [Echo; 2],
}

impl Site {
    fn new() -> Result<Self> {
        let (here, pass, strict) = (Here::new()?, free_address()?, free_address()?);
        let server = |name: &'static str| -> Result<Echo> {
            let names = [HOST, "*.bailey.test", "*.wild.bailey.test", "127.0.0.1"];
            Echo::tls(name, &here.authority.issue(here.folder(), name, &names)?, &["imap", "h2"])
        };
        let (red, blue) = (server("red")?, server("blue")?);
        // Nothing uses the certificate of the edge, which is warned of and no more.
        let config = format!(
            "{}[pool.red]\nbackends = [\"{}\"]\n[pool.blue]\nbackends = [\"{}\"]\n\
             [service.pass]\naddresses = [\"{pass}\"]\nmode = \"passthrough\"\npool = \"red\"\n\
             [[service.pass.routes]]\nhosts = [\"blue.bailey.test\", \"*.wild.bailey.test\"]\npool = \"blue\"\n\
             [[service.pass.routes]]\nhosts = [\"mail.bailey.test\"]\nalpn = [\"imap\"]\npool = \"blue\"\n\
             [service.strict]\naddresses = [\"{strict}\"]\nmode = \"passthrough\"\n\
             [[service.strict.routes]]\nhosts = [\"blue.bailey.test\"]\nalpn = [\"imap\"]\npool = \"blue\"\n",
            here.head(""),
            red.address,
            blue.address
        );
        let edge = here.start(&config)?;
        Ok(Self { here, edge, pass, strict, _servers: [red, blue] })
    }

    /// What comes back for these bytes.
    fn talk(&self, to: SocketAddr, host: &str, alpn: &[&str], bytes: &[u8]) -> Result<Vec<u8>> {
        Ok(talk(&self.here.target(to, host)?, alpn, bytes)?.0)
    }
}

fn pieces() -> Result<()> {
    let site = Site::new()?;
    for (host, who) in [("blue.bailey.test", "blue"), (HOST, "red")] {
        // Record by record in one write, byte by byte, and byte by byte in records of seven bytes.
        for (record, byte_by_byte) in [(7, false), (usize::MAX, true), (7, true)] {
            let back = in_pieces(&site, host, record, byte_by_byte)?;
            ensure!(back == format!("hello{who} -"), "{host}, records of {record}, {byte_by_byte}: {back:?}");
        }
    }
    Ok(())
}

/// A connection whose ClientHello comes in records of so many bytes; what comes back for `hello`.
fn in_pieces(site: &Site, host: &str, record: usize, byte_by_byte: bool) -> Result<String> {
    let groups = vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519];
    let crypto = CryptoProvider { kx_groups: groups, ..aws_lc_rs::default_provider() };
    let builder =
        rustls::ClientConfig::builder_with_provider(Arc::new(crypto)).with_safe_default_protocol_versions()?;
    let config = builder.with_root_certificates(site.here.authority.roots()?).with_no_client_auth();
    let mut session = rustls::ClientConnection::new(Arc::new(config), ServerName::try_from(host.to_string())?)?;
    let mut hello = Vec::new();
    session.write_tls(&mut hello)?;
    ensure!(hello.len() > 1400, "{} bytes are no post-quantum ClientHello", hello.len());
    let mut socket = TcpStream::connect(site.pass)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    let hello = in_records(&hello, record);
    for piece in hello.chunks(if byte_by_byte { 1 } else { hello.len() }) {
        socket.write_all(piece)?;
        // So that the edge sees it alone.
        std::thread::sleep(Duration::from_micros(200));
    }
    let mut tls = rustls::StreamOwned::new(session, socket);
    tls.write_all(b"hello")?;
    tls.conn.send_close_notify();
    tls.flush()?;
    tls.sock.shutdown(Shutdown::Write)?;
    let mut back = String::new();
    tls.read_to_string(&mut back)?;
    Ok(back)
}

/// The same handshake message in records of so many bytes (RFC 8446, 5.1).
fn in_records(record: &[u8], size: usize) -> Vec<u8> {
    let (head, message) = record.split_at(5);
    let one = |part: &[u8]| [&head[..3], &(part.len() as u16).to_be_bytes(), part].concat();
    message.chunks(size).flat_map(one).collect()
}

fn names() -> Result<()> {
    let site = Site::new()?;
    for (host, alpn, want) in [
        (HOST, &[][..], "red -"),
        ("BLUE.bailey.test", &[], "blue -"),
        ("x.wild.bailey.test", &["h2"], "blue h2"),
        ("mail.bailey.test", &["h2", "imap"], "blue imap"),
        ("mail.bailey.test", &["h2"], "red h2"),
        ("mail.bailey.test", &[], "red -"),
        // An address is no SNI.
        ("127.0.0.1", &[], "red -"),
    ] {
        let back = String::from_utf8(site.talk(site.pass, host, alpn, b"hello")?)?;
        ensure!(back == format!("hello{want}"), "{host} {alpn:?}: {back}");
    }
    let back = site.talk(site.strict, "blue.bailey.test", &["imap"], b"hello")?;
    ensure!(back == b"helloblue imap", "{back:?}");
    for (words, alert) in [
        (&["-noservername"][..], "unrecognized name"),
        (&["-servername", "other.test", "-tls1_3"], "unrecognized name"),
        (&["-servername", "other.test", "-tls1_2"], "unrecognized name"),
        (&["-servername", "blue.bailey.test", "-alpn", "h2"], "no application protocol"),
    ] {
        let said = site.here.s_client(site.strict, words)?;
        ensure!(said.code != Some(0) && said.has(alert), "{words:?}: {}", said.text);
    }
    ensure!(failed(&site.edge, "strict", "unknown_name")? == 3.0);
    ensure!(failed(&site.edge, "strict", "no_shared_protocol")? == 1.0);
    Ok(())
}

fn behind_nginx() -> Result<()> {
    let (here, at, to) = (Here::new()?, free_address()?, free_address()?);
    let own: Identity = here.authority.issue(here.folder(), "own", &[HOST])?;
    let servers = format!(
        "server {{ listen {to} ssl http2 proxy_protocol; ssl_certificate own.pem; ssl_certificate_key own.key;\n\
         location / {{ return 200 \"$proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_addr:\
         $proxy_protocol_server_port $ssl_server_name $server_protocol\"; }} }}\n"
    );
    let _nginx = nginx(here.folder(), &servers, to)?;
    let config = format!(
        "{}[pool.web]\nbackends = [\"{to}\"]\nproxy_protocol = \"v2\"\n\
         [service.pass]\naddresses = [\"{at}\"]\nmode = \"passthrough\"\npool = \"web\"\n",
        here.head("")
    );
    let _edge = here.start(&config)?;
    let target = here.target(at, HOST)?;
    runtime()?.block_on(async {
        for (protocol, word) in [(Protocol::Http1, "HTTP/1.1"), (Protocol::Http2, "HTTP/2.0")] {
            let reply = target.get(protocol, "/").await?;
            let body = String::from_utf8_lossy(&reply.body);
            ensure!(body == format!("{} {at} {HOST} {word}", reply.local), "{} asked: {body}", reply.local);
        }
        let stream = target.tls(&[]).await?;
        let shown = stream.get_ref().1.peer_certificates().context("no certificate")?;
        ensure!(shown == own.certificates()?, "another certificate than nginx's");
        Ok(())
    })
}

fn bulk() -> Result<()> {
    let site = Site::new()?;
    let bytes = pattern_bytes(8 << 20);
    let back = site.talk(site.pass, HOST, &[], &bytes)?;
    let (echoed, last) = back.split_at(bytes.len().min(back.len()));
    ensure!(echoed == bytes, "{} bytes came back, not the same", echoed.len());
    // Said only after the client's end had arrived.
    ensure!(last == b"red -", "at the end: {last:?}");
    let scrape = site.edge.metrics()?;
    ensure!(scrape.sum("bailey_backend_failures_total", &[]) == 0.0);
    Ok(())
}

fn plain_http() -> Result<()> {
    let site = Site::new()?;
    let said = curl(site.pass, &[], &site.here.ca(), &[&format!("http://{}/secret", site.pass)])?;
    ensure!(said.status(400) && said.text.to_lowercase().contains("https"), "{}", said.text);
    ensure!(failed(&site.edge, "pass", "plain_http")? == 1.0);
    Ok(())
}
