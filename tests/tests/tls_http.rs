//! What clients and backends are promised: TLS versions, protocols, bodies whole, headers clean, deadlines kept.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Request;
use lb_tests::backend::{Backend, pattern_bytes, sha256};
use lb_tests::client::{Protocol, within};
use lb_tests::edge::Edge;
use lb_tests::harness::{lab, main as run};
use lb_tests::lab::{CLIENT4, HOST, Lab, VIP4};
use lb_tests::pki::Authority;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn main() -> ExitCode {
    run(vec![
        lab("curl_speaks_http1_and_http2", curl),
        lab("openssl_speaks_tls_1_2_and_1_3_and_a_minimum_is_kept", versions),
        lab("sni_picks_the_certificate_and_an_unknown_name_gets_the_first", sni),
        lab("a_websocket_is_tunnelled", websocket),
        lab("ten_mebibytes_go_up_and_down_whole", bodies),
        lab("hop_by_hop_headers_and_forged_forwarding_ones_do_not_pass", headers),
        lab("trailers_pass", trailers),
        lab("routes_choose_by_host_and_path", routes),
        lab("an_unfinished_handshake_is_cut_at_its_deadline", unfinished_handshake),
        lab("an_unfinished_header_is_cut_at_its_deadline", unfinished_header),
        lab("backends_that_are_away_or_silent_give_502_503_504", bad_backends),
        lab("an_upstream_certificate_is_verified", upstream_tls),
    ])
}

fn curl() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let _edge = Edge::start(&lab, &lab.site("", ""))?;
    let (ca, resolve) = (lab.ca(), format!("{HOST}:443:{VIP4}"));
    for (option, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let ca = ca.to_string_lossy();
        let url = format!("https://{HOST}/path?x=1");
        let arguments =
            ["-sS", option, "--cacert", &ca, "--resolve", &resolve, "-w", "\n%{http_version} %{http_code}", &url];
        let text = lab.client.output("curl", &arguments)?;
        ensure!(text.ends_with(&format!("\n{version} 200")) && text.contains("GET /path?x=1"), "{option}: {text}");
    }
    Ok(())
}

fn versions() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let strict = format!(
        "[service.strict]\naddresses = [\"{VIP4}:8443\"]\nmode = \"https\"\ncertificates = [\"lab\"]\npool = \"app\"\n\
         min_tls = \"1.3\"\n"
    );
    let edge = Edge::start(&lab, &(lab.site("", "") + &strict))?;
    let ca = lab.ca();
    let connect = |port: u16, option: &str| {
        let address = format!("{VIP4}:{port}");
        let ca = ca.to_string_lossy();
        let arguments =
            ["s_client", "-connect", &address, "-servername", HOST, "-CAfile", &ca, "-verify_return_error", option];
        lab.client.output("openssl", &arguments)
    };
    let v12 = connect(443, "-tls1_2")?;
    ensure!(v12.contains("TLSv1.2") && v12.contains("Verification: OK"), "{v12}");
    let v13 = connect(443, "-tls1_3")?;
    ensure!(v13.contains("TLSv1.3") && v13.contains("Verification: OK"), "{v13}");
    ensure!(connect(8443, "-tls1_3")?.contains("TLSv1.3"));
    ensure!(connect(8443, "-tls1_2").is_err(), "TLS 1.2 was taken where the minimum is 1.3");
    let scrape = edge.metrics()?;
    let done = |version| scrape.sum("bailey_tls_handshakes_total", &[("service", "web"), ("version", version)]);
    ensure!(done("1.2") == 1.0 && done("1.3") == 1.0);
    ensure!(scrape.sum("bailey_tls_handshake_failures_total", &[("service", "strict")]) == 1.0);
    Ok(())
}

fn sni() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    lab.authority.issue(lab.folder(), "other", &["other.test", "*.wild.test"])?;
    let config = lab
        .site("", "")
        .replace("[service.web]", "[certificate.other]\nchain = \"other.pem\"\nkey = \"other.key\"\n[service.web]")
        .replace("certificates = [\"lab\"]", "certificates = [\"lab\", \"other\"]");
    let _edge = Edge::start(&lab, &config)?;
    let subject = |name: &str| {
        let address = format!("{VIP4}:443");
        lab.client.output("openssl", &["s_client", "-connect", &address, "-servername", name])
    };
    for (name, expected) in [(HOST, "CN = edge"), ("other.test", "CN = other"), ("a.wild.test", "CN = other")] {
        let text = subject(name)?;
        ensure!(text.contains(expected) || text.contains(&expected.replace(' ', "")), "{name}: {text}");
    }
    let unknown = subject("unknown.test")?;
    ensure!(unknown.contains("CN = edge") || unknown.contains("CN=edge"), "{unknown}");
    Ok(())
}

fn websocket() -> Result<()> {
    let lab = Lab::new(1)?;
    let backends = lab.start_backends()?;
    let _edge = Edge::start(&lab, &lab.site("", ""))?;
    let target = lab.target(VIP4, 443)?;
    let long = "x".repeat(100_000);
    let texts = ["hello", long.as_str(), "bye"];
    let echoes = lab.client.run_async(|| async { target.websocket("/socket", &texts).await })?;
    ensure!(echoes == texts, "the echoes differ");
    ensure!(backends[0].seen()[0].headers["upgrade"] == "websocket");
    // A request that asks for an upgrade and does not get one is an ordinary answer.
    let reply = lab.client.run_async(|| async {
        let request = Request::get("/plain").header("connection", "upgrade").header("upgrade", "nonsense");
        target.connect(Protocol::Http1).await?.send(request, Bytes::new()).await
    })?;
    ensure!(reply.status == 200, "{reply:?}");
    Ok(())
}

fn bodies() -> Result<()> {
    const SIZE: usize = 10 << 20;
    let lab = Lab::new(1)?;
    let backends = lab.start_backends()?;
    let edge = Edge::start(&lab, &lab.site("", ""))?;
    let target = lab.target(VIP4, 443)?;
    let body = Bytes::from(pattern_bytes(SIZE));
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (up, down) = lab.client.run_async(|| async {
            let mut connection = target.connect(protocol).await?;
            let up = connection.send(Request::put("/up"), body.clone()).await?;
            let down = connection.get(&format!("/down?size={SIZE}")).await?;
            Ok((up, down))
        })?;
        ensure!(up.status == 200 && down.body.len() == SIZE && sha256(&down.body) == sha256(&body), "{protocol:?}");
    }
    let seen = backends[0].seen();
    for up in seen.iter().filter(|request| request.line.starts_with("PUT")) {
        ensure!(up.body_bytes == SIZE as u64 && up.body_sha256 == sha256(&body), "{} bytes arrived", up.body_bytes);
    }
    let scrape = edge.metrics()?;
    for name in ["bailey_received_bytes_total", "bailey_sent_bytes_total"] {
        let bytes = scrape.sum(name, &[("service", "web")]);
        ensure!(bytes > 2.0 * SIZE as f64 && bytes < 2.2 * SIZE as f64, "{name} is {bytes}");
    }
    Ok(())
}

fn headers() -> Result<()> {
    let lab = Lab::new(1)?;
    let backends = lab.start_backends()?;
    let _edge = Edge::start(&lab, &lab.site("", ""))?;
    let target = lab.target(VIP4, 443)?;
    let forged = |request: http::request::Builder| {
        let request = request.header("x-forwarded-for", "6.6.6.6").header("x-forwarded-proto", "gopher");
        request.header("x-forwarded-host", "evil.test").header("x-kept", "yes").header("te", "trailers")
    };
    let (h1, h2) = lab.client.run_async(|| async {
        let hop = |request: http::request::Builder| {
            request.header("connection", "x-secret, close").header("x-secret", "1").header("keep-alive", "timeout=5")
        };
        let h1 = target
            .connect(Protocol::Http1)
            .await?
            .send(hop(forged(Request::get("/?early_hop=1"))), Bytes::new())
            .await?;
        let h2 =
            target.connect(Protocol::Http2).await?.send(forged(Request::get("/?early_hop=1")), Bytes::new()).await?;
        Ok((h1, h2))
    })?;
    for (reply, seen) in [h1, h2].iter().zip(backends[0].seen()) {
        let saw = |name: &str| seen.headers.get_all(name).iter().map(|v| v.to_str().unwrap_or("?")).collect::<Vec<_>>();
        ensure!(saw("x-forwarded-for") == [CLIENT4.to_string()], "{:?}", saw("x-forwarded-for"));
        ensure!(saw("x-forwarded-proto") == ["https"] && saw("x-forwarded-host") == [HOST], "{:?}", seen.headers);
        ensure!(saw("x-kept") == ["yes"] && saw("host") == [HOST], "{:?}", seen.headers);
        for gone in ["x-secret", "keep-alive", "proxy-connection", "transfer-encoding"] {
            ensure!(saw(gone).is_empty(), "the backend saw {gone}: {:?}", seen.headers);
        }
        ensure!(reply.headers.get("x-hop").is_none() && reply.headers.get("keep-alive").is_none(), "{reply:?}");
    }
    Ok(())
}

fn trailers() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let _edge = Edge::start(&lab, &lab.site("", ""))?;
    let target = lab.target(VIP4, 443)?;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let request = Request::get("/?trailers=1").header("te", "trailers");
        let reply =
            lab.client.run_async(|| async { target.connect(protocol).await?.send(request, Bytes::new()).await })?;
        let trailers = reply.trailers.as_ref().with_context(|| format!("{protocol:?}: no trailers in {reply:?}"))?;
        ensure!(trailers["x-checksum"] == "done", "{protocol:?}: {trailers:?}");
    }
    Ok(())
}

fn routes() -> Result<()> {
    let lab = Lab::new(2)?;
    let _backends = lab.start_backends()?;
    let more = format!(
        "[pool.two]\nbackends = [\"{}\"]\n\
         [[service.web.routes]]\npath = \"/api\"\npool = \"two\"\n\
         [[service.web.routes]]\nhosts = [\"*.bailey.test\"]\npath = \"/star\"\npool = \"two\"\n",
        lab.backend(1, 8080)
    );
    let config = lab.site("", "").replace(&format!(", \"{}\"", lab.backend(1, 8080)), "") + &more;
    let edge = Edge::start(&lab, &config)?;
    let target = lab.target(VIP4, 443)?;
    let paths =
        [("/", "backend1"), ("/api", "backend2"), ("/api/x", "backend2"), ("/apix", "backend1"), ("/star", "backend2")];
    for (path, expected) in paths {
        let reply = lab.client.run_async(|| async { target.get(Protocol::Http2, path).await })?;
        ensure!(reply.header("x-backend") == expected, "{path}: {reply:?}");
    }
    let scrape = edge.metrics()?;
    ensure!(scrape.sum("bailey_http_requests_total", &[("pool", "two"), ("code", "2xx")]) == 3.0);
    Ok(())
}

const CUT: Duration = Duration::from_secs(1);

/// How long the edge kept a connection open that sent `bytes` and then nothing.
fn held(lab: &Lab, bytes: &[u8]) -> Result<Duration> {
    lab.client.run(|| {
        let mut stream = TcpStream::connect((VIP4, 443))?;
        stream.set_read_timeout(Some(CUT * 10))?;
        let start = Instant::now();
        stream.write_all(bytes)?;
        // An alert may come before the end.
        let end = stream.read_to_end(&mut Vec::new());
        ensure!(!end.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "never cut");
        Ok(start.elapsed())
    })
}

fn unfinished_handshake() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let edge = Edge::start(&lab, &lab.site("", "timeouts.handshake = \"1s\""))?;
    // Nothing; the beginning of a record; a record that promises a ClientHello of 512 bytes and brings two.
    for bytes in [&b""[..], b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let held = held(&lab, bytes)?;
        ensure!(held >= CUT.mul_f32(0.9) && held < CUT * 4, "{bytes:?}: cut after {held:?}");
    }
    let cut = edge.metrics()?.sum("bailey_client_timeouts_total", &[("service", "web"), ("deadline", "handshake")]);
    ensure!(cut == 3.0, "bailey_client_timeouts_total{{deadline=handshake}} is {cut}");
    Ok(())
}

fn unfinished_header() -> Result<()> {
    let lab = Lab::new(1)?;
    let backends = lab.start_backends()?;
    let edge = Edge::start(&lab, &lab.site("", "timeouts.header = \"1s\""))?;
    let target = lab.target(VIP4, 443)?;
    let held = lab.client.run_async(|| async {
        let mut stream = target.tls(&["http/1.1"]).await?;
        let start = Instant::now();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: www.bai").await?;
        within("end of the connection", async {
            // With or without a 408; with or without close_notify.
            stream.read_to_end(&mut Vec::new()).await.ok();
            Ok(())
        })
        .await?;
        Ok(start.elapsed())
    })?;
    ensure!(held >= CUT.mul_f32(0.9) && held < CUT * 4, "cut after {held:?}");
    ensure!(backends[0].count() == 0);
    let cut = edge.metrics()?.sum("bailey_client_timeouts_total", &[("service", "web"), ("deadline", "header")]);
    ensure!(cut == 1.0, "bailey_client_timeouts_total{{deadline=header}} is {cut}");
    Ok(())
}

fn bad_backends() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let more = format!(
        "[[service.web.routes]]\npath = \"/away\"\npool = \"away\"\n\
         [[service.web.routes]]\npath = \"/none\"\npool = \"none\"\n\
         [[service.web.routes]]\npath = \"/silent\"\npool = \"silent\"\n\
         [pool.away]\nbackends = [\"{}\"]\n[pool.none]\nbackends = []\n\
         [pool.silent]\nbackends = [\"{}\"]\ntimeouts.response = \"500ms\"\n",
        lab.backend(0, 1),
        lab.backend(0, 8080)
    );
    let edge = Edge::start(&lab, &(lab.site("", "") + &more))?;
    let target = lab.target(VIP4, 443)?;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for (path, code) in [("/away", 502), ("/none", 503), ("/silent?silent=1", 504), ("/", 200)] {
            let reply = lab.client.run_async(|| async { target.get(protocol, path).await })?;
            ensure!(reply.status == code, "{path}: {reply:?}");
            ensure!(!reply.body.is_empty() && (code == 200 || reply.body.len() < 1024), "{path}: {reply:?}");
        }
    }
    let scrape = edge.metrics()?;
    let failed = |pool, kind| scrape.sum("bailey_backend_failures_total", &[("pool", pool), ("kind", kind)]);
    ensure!(failed("away", "connect") >= 2.0 && failed("silent", "response_timeout") == 2.0);
    Ok(())
}

fn upstream_tls() -> Result<()> {
    let lab = Lab::new(1)?;
    let stranger = Authority::new("stranger")?;
    stranger.save(&lab.folder().join("stranger.pem"))?;
    let identity = lab.authority.issue(lab.folder(), "backend", &["backend.test", "10.78.1.2"])?;
    let _backend = Backend::start_tls(&lab.backends[0], "behind-tls", lab.backend(0, 8443), identity.server()?)?;
    let pools = [
        ("named", "ca = \"ca.pem\"\nserver_name = \"backend.test\"", 200),
        ("address", "ca = \"ca.pem\"", 200),
        ("stranger", "ca = \"stranger.pem\"\nserver_name = \"backend.test\"", 502),
        ("other-name", "ca = \"ca.pem\"\nserver_name = \"other.test\"", 502),
        ("unverified", "ca = \"stranger.pem\"\nverify = false", 200),
    ];
    let mut config = lab.site("", "");
    for (name, tls, _) in &pools {
        config += &format!(
            "[[service.web.routes]]\npath = \"/{name}\"\npool = \"{name}\"\n\
             [pool.{name}]\nbackends = [\"{}\"]\n[pool.{name}.tls]\n{tls}\n",
            lab.backend(0, 8443)
        );
    }
    let _edge = Edge::start(&lab, &config)?;
    let target = lab.target(VIP4, 443)?;
    for (name, _, code) in pools {
        let reply = lab.client.run_async(|| async { target.get(Protocol::Http1, &format!("/{name}")).await })?;
        ensure!(reply.status == code, "{name}: {reply:?}");
    }
    Ok(())
}
