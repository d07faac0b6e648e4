//! Streams from beginning to end: clients that are slow, long or no TLS at all, reloads, many at once, client certificates,
//! and health checks of such pools.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};
use lb_tests::client::{DEADLINE, Protocol, Target};
use lb_tests::harness::{Test, plain, with};
use lb_tests::here::{Here, free_address};
use lb_tests::lab::HOST;
use lb_tests::netns::runtime;
use lb_tests::pki::{Authority, Order, provider};
use lb_tests::programs::run;
use lb_tests::wait::{PATIENCE, wait_ok};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use lb_tests::peers::nginx;

use crate::peers::{Echo, failed, talk, talk_with};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        plain("a_client_hello_that_is_slow_long_or_none_is_refused_and_counted", strange_hellos),
        plain("a_stream_goes_on_over_a_reload_that_sends_new_ones_elsewhere", reload),
        plain("mode_tls_asks_for_client_certificates", client_certificates),
        with("hundreds_of_connections_pass_to_nginx_without_one_error", &["nginx", "h2load"], many),
        with("checks_of_http_begin_as_the_pool_says_with_a_proxy_header_and_tls", &["nginx"], checks),
    ]
}

/// A passthrough service `pass` with the pool `app`.
fn pass(here: &Here, at: SocketAddr, backend: SocketAddr, keys: &str, more: &str) -> String {
    format!(
        "{}[pool.app]\nbackends = [\"{backend}\"]\n{keys}\n\
         [service.pass]\naddresses = [\"{at}\"]\nmode = \"passthrough\"\npool = \"app\"\n{more}\n",
        here.head("")
    )
}

fn strange_hellos() -> Result<()> {
    let (here, at, red) = (Here::new()?, free_address()?, Echo::clear("red")?);
    let more = "timeouts.handshake = \"400ms\"\n[tls]\nmax_client_hello = \"2KiB\"\n";
    let edge = here.start(&pass(&here, at, red.address, "", more))?;
    // A record of 16 KiB, and in it a ClientHello of 60 KiB.
    let long = [&[22, 3, 1, 0x40, 0, 1, 0, 0xf0, 0, 3, 3][..], &[0; 4096]].concat();
    for (reason, bytes, answer) in [
        ("timeout", &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[][..]),
        // Alert decode_error.
        ("too_long", &long, &[21, 3, 3, 0, 2, 2, 50]),
        ("not_tls", b"a1 capability\r\n", &[]),
        ("not_tls", &[0; 64], &[]),
    ] {
        let before = failed(&edge, "pass", reason)?;
        let mut socket = TcpStream::connect(at)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.write_all(bytes)?;
        let mut said = Vec::new();
        // A reset is an end, too.
        let _ = socket.read_to_end(&mut said);
        ensure!(said == answer, "{reason}: {said:?}");
        let count = failed(&edge, "pass", reason)? - before;
        ensure!(count == 1.0, "{reason}: {count}\n{}", edge.metrics_text()?);
    }
    ensure!(edge.metrics()?.sum("bailey_backend_connections_total", &[]) == 0.0, "a backend was bothered");
    Ok(())
}

fn reload() -> Result<()> {
    let (here, at) = (Here::new()?, free_address()?);
    let server = |name| -> Result<Echo> { Echo::tls(name, &here.authority.issue(here.folder(), name, &[HOST])?, &[]) };
    let (red, blue) = (server("red")?, server("blue")?);
    let edge = here.start(&pass(&here, at, red.address, "", ""))?;
    let target = here.target(at, HOST)?;
    runtime()?.block_on(async {
        let mut old = target.tls(&[]).await?;
        echoed(&mut old, b"before").await?;
        edge.rewrite(&pass(&here, at, blue.address, "", ""))?;
        edge.done(&["reload"])?;
        let mut new = target.tls(&[]).await?;
        echoed(&mut new, b"new").await?;
        echoed(&mut old, b"after").await?;
        for (mut stream, want) in [(old, "red -"), (new, "blue -")] {
            stream.shutdown().await?;
            let mut last = String::new();
            stream.read_to_string(&mut last).await?;
            ensure!(last == want, "{last} and not {want}");
        }
        Ok(())
    })
}

async fn echoed(stream: &mut tokio_rustls::client::TlsStream<tokio::net::TcpStream>, bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes).await?;
    let mut back = vec![0; bytes.len()];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut back)).await.context("no echo")??;
    ensure!(back == bytes, "{back:?}");
    Ok(())
}

fn client_certificates() -> Result<()> {
    let (here, at, red) = (Here::new()?, free_address()?, Echo::clear("red")?);
    let clients = Authority::new("Clients")?;
    clients.save(&here.file("clients.pem"))?;
    let good = clients.order(here.folder(), "good", &Order::client())?;
    let stranger = Authority::new("Strangers")?.order(here.folder(), "stranger", &Order::client())?;
    let more = "[service.pass.client_cert]\nmode = \"required\"\nca = \"clients.pem\"\n";
    let config = pass(&here, at, red.address, "", more).replace("\"passthrough\"", "\"tls\"\ncertificates = [\"lab\"]");
    let edge = here.start(&config)?;
    let target: Target = here.target(at, HOST)?;
    let with = |identity: &lb_tests::pki::Identity| -> Result<Vec<u8>> {
        let builder = rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = builder.with_root_certificates(target.roots.clone());
        let config = builder.with_client_auth_cert(identity.certificates()?, identity.private_key()?)?;
        talk_with(&target, config, b"hello")
    };
    ensure!(with(&good)? == b"hellored -");
    // Of TLS 1.3 a client is done before it is judged: whether it hears the alert is up to the network.
    ensure!(with(&stranger).is_err(), "a stranger was served");
    ensure!(talk(&target, &[], b"hello").is_err(), "served without a certificate");
    for reason in ["unknown_ca", "client_cert_missing"] {
        ensure!(failed(&edge, "pass", reason)? == 1.0, "{reason} is not counted");
    }
    Ok(())
}

fn many() -> Result<()> {
    let (here, at, to) = (Here::new()?, free_address()?, free_address()?);
    let servers = format!(
        "server {{ listen {to} ssl http2; ssl_certificate edge.pem; ssl_certificate_key edge.key;\n\
         location / {{ return 200 \"$server_protocol\"; }} }}\n"
    );
    let _nginx = nginx(here.folder(), &servers, to)?;
    let edge = here.start(&pass(&here, at, to, "", ""))?;
    let (url, address) = (format!("https://{HOST}:{}/", at.port()), at.to_string());
    let said = run("h2load", &["-n", "3000", "-c", "300", "-m", "5", "--connect-to", &address, &url], "")?;
    ensure!(said.has("3000 succeeded, 0 failed") && said.has("3000 2xx"), "{}", said.text);
    ensure!(edge.metrics()?.sum("bailey_backend_failures_total", &[]) == 0.0, "{}", edge.metrics_text()?);
    Ok(())
}

fn checks() -> Result<()> {
    let (here, at, to) = (Here::new()?, free_address()?, free_address()?);
    let servers = format!(
        "server {{ listen {to} ssl proxy_protocol; ssl_certificate edge.pem; ssl_certificate_key edge.key;\n\
         ssl_verify_client on; ssl_client_certificate ca.pem; location / {{ return 200 \"yes\"; }} }}\n"
    );
    here.authority.order(here.folder(), "own", &Order::client())?;
    let _nginx = nginx(here.folder(), &servers, to)?;
    let health = "[pool.app.health]\ntype = \"http\"\ninterval = \"200ms\"\nfall = 1\n";
    let tls = "[pool.app.tls]\nca = \"ca.pem\"\ncertificate = \"own\"\nserver_name = \"www.bailey.test\"\n";
    let certificate = "[certificate.own]\nchain = \"own.pem\"\nkey = \"own.key\"\n";
    let config = |pool: &str| pass(&here, at, to, pool, certificate);
    let edge = here.start(&config(&format!("proxy_protocol = \"v2\"\n{tls}{health}")))?;
    let checked = |good: bool| {
        wait_ok("a check", PATIENCE, || {
            let text = edge.done(&["pool", "show", "app"])?;
            let up = edge.metrics()?.sum("bailey_backend_up", &[("pool", "app")]);
            ensure!((up == 1.0) == good && text.contains("up (HTTP 200 after") == good, "up {up}: {text}");
            Ok(())
        })
    };
    checked(true)?;
    // The pool's TLS is for checks: a client's own goes through to nginx, which asks it for a certificate, too.
    let target = here.target(at, HOST)?;
    let reply = runtime()?.block_on(target.get(Protocol::Http1, "/"))?;
    ensure!(reply.status == 400 && String::from_utf8_lossy(&reply.body).contains("certificate"), "{reply:?}");
    // The same again without the header, which nginx then misses.
    edge.rewrite(&config(&format!("{tls}{health}")))?;
    edge.done(&["reload"])?;
    checked(false)?;
    edge.rewrite(&config(&format!("proxy_protocol = \"v2\"\n{tls}{health}")))?;
    edge.done(&["reload"])?;
    checked(true)
}
