//! What is documented is exported, what is exported is documented, and Prometheus can read it.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use lb_tests::client::Protocol;
use lb_tests::docs::documented_metrics;
use lb_tests::edge::Edge;
use lb_tests::harness::{lab, main as run};
use lb_tests::lab::{Lab, VIP4};
use lb_tests::need::find;
use lb_tests::process::signal_process;
use lb_tests::wait::{PATIENCE, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn main() -> ExitCode {
    run(vec![
        lab("every_documented_metric_is_exported_with_its_type_and_labels", documented),
        lab("requests_connections_and_backends_are_counted_once", counted),
    ])
}

/// Families that have no row until something happens that other tests provoke: those of what they count. Their types and
/// labels are held to the documentation by a test of the control plane's.
const RARE: [&str; 22] = [
    "bailey_authorizer_cache_entries",
    "bailey_authorizer_cache_total",
    "bailey_authorizer_failures_total",
    "bailey_authorizer_requests_total",
    "bailey_authorizer_seconds",
    "bailey_backend_ejections_total",
    "bailey_circuit_opens_total",
    "bailey_compressed_bytes_total",
    "bailey_compressed_responses_total",
    "bailey_dns_addresses",
    "bailey_dns_addresses_rejected_total",
    "bailey_dns_failing",
    "bailey_dns_last_answer_timestamp_seconds",
    "bailey_dns_lookups_total",
    "bailey_hedges_total",
    "bailey_http_invalid_headers_total",
    "bailey_http_mirrored_total",
    "bailey_limit_sources",
    "bailey_limited_total",
    "bailey_pool_queue_duration_seconds",
    "bailey_proxy_headers_total",
    "bailey_retries_total",
];

/// Provoke everything else once: requests of every kind, a failed handshake, a deadline, a dead worker, a refused reload.
fn provoke(lab: &Lab, edge: &Edge, config: &str) -> Result<()> {
    let target = lab.target(VIP4, 443)?;
    let worker = wait_for("a worker", PATIENCE, || edge.worker())?;
    signal_process(worker, rustix::process::Signal::KILL)?;
    wait_for("another worker", PATIENCE, || edge.worker().filter(|new| *new != worker))?;
    lab.client.run_async(|| async {
        target.get(Protocol::Http2, "/").await?;
        target.get(Protocol::Http1, "/away").await?;
        // Refused before routing: a second Host header is a smuggling attempt (RFC 9112, 3.2).
        let mut raw = target.tls(&["http/1.1"]).await?;
        raw.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\nConnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        raw.read_to_end(&mut answer).await.ok();
        ensure!(answer.starts_with(b"HTTP/1.1 400"), "two Host headers: {}", String::from_utf8_lossy(&answer));
        // More than one handshake of a source on a thread is refused here; so many meet on one.
        let mut silent = Vec::new();
        for _ in 0..16 {
            silent.push(target.tcp().await?);
        }
        for mut silent in silent {
            silent.read_to_end(&mut Vec::new()).await.ok();
        }
        Ok(())
    })?;
    let refused = lab.client.output("openssl", &["s_client", "-connect", &format!("{VIP4}:443"), "-tls1_1"]);
    ensure!(refused.is_err(), "TLS 1.1 was taken");
    edge.rewrite(&config.replace("pool = ", "pol = "))?;
    ensure!(edge.cli(&["reload"])?.code == Some(1));
    Ok(())
}

fn documented() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let more = format!(
        "[pool.app.health]\ntype = \"http\"\ninterval = \"100ms\"\n\
         [[service.web.routes]]\npath = \"/away\"\npool = \"away\"\n[pool.away]\nbackends = [\"{}\"]\n",
        lab.backend(0, 1)
    );
    let forwarded = format!(
        "[service.forwarded]\nmode = \"l4\"\naddresses = [\"{VIP4}:5353\"]\nforward = \"nat\"\npool = \"forwarded\"\n\
         [pool.forwarded]\nbackends = [\"{}\"]\n",
        lab.backend(0, 5353)
    );
    // A staple that nobody gives, clients that are asked for certificates, a pool whose backends are not verified.
    let chain = ["edge.pem", "ca.pem"].map(|file| std::fs::read_to_string(lab.folder().join(file)));
    let [edge_pem, ca_pem] = chain;
    std::fs::write(lab.folder().join("stapled.pem"), edge_pem? + &ca_pem?)?;
    let ending_tls = "[tls]\nmax_handshakes_per_source = 1\n\
         [certificate.stapled]\nchain = \"stapled.pem\"\nkey = \"edge.key\"\nstapling = true\n\
         ocsp_responder = \"http://127.0.0.1:9/\"\n\
         [service.web.client_cert]\nmode = \"optional\"\nca = \"ca.pem\"\n\
         [pool.away.tls]\nverify = false\n[pool.away.persistence]\ntype = \"source\"\n[access_log.main]\nto = \"stdout\"\n";
    let config = lab.site("state = \"state\"", "timeouts.handshake = \"1s\"\naccess_log = \"main\"")
        + &more
        + &forwarded
        + ending_tls;
    let edge = Edge::start(&lab, &config)?;
    provoke(&lab, &edge, &config)?;
    let text = edge.metrics_text()?;
    let scrape = lb_tests::metrics::Scrape::parse(&text)?;
    let mut exported: BTreeMap<&str, &str> = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        exported.extend(line.split_once(' '));
    }
    let documented = documented_metrics()?;
    for name in RARE {
        ensure!(documented.contains_key(name), "{name} is in no documentation");
    }
    let happened = |name: &str| exported.contains_key(name) || !RARE.contains(&name);
    for (name, metric) in documented.iter().filter(|(name, _)| happened(name)) {
        let kind =
            exported.get(name.as_str()).with_context(|| format!("{name} is documented and not exported:\n{text}"))?;
        ensure!(*kind == metric.kind, "{name} is documented as {} and exported as {kind}", metric.kind);
        let suffix = if *kind == "histogram" { "_count" } else { "" };
        let name = format!("{name}{suffix}");
        let labels: Option<Vec<&String>> =
            scrape.matching(&name, &[]).next().map(|sample| sample.labels.keys().collect());
        let mut expected: Vec<&String> = metric.labels.iter().collect();
        expected.sort();
        ensure!(labels.as_ref() == Some(&expected), "{name} has labels {labels:?}, documented are {expected:?}");
    }
    for name in exported.keys() {
        ensure!(documented.contains_key(*name), "{name} is exported and not documented in docs/metrics.md");
    }
    promtool(&text)
}

/// Prometheus's own check, where it is installed.
fn promtool(text: &str) -> Result<()> {
    use std::io::Write;
    let Some(promtool) = find("promtool") else { return Ok(()) };
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().context("stdin of promtool")?.write_all(text.as_bytes())?;
    let out = child.wait_with_output()?;
    ensure!(
        out.status.success(),
        "promtool: {}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(())
}

fn counted() -> Result<()> {
    const REQUESTS: usize = 20;
    let lab = Lab::new(2)?;
    let backends = lab.start_backends()?;
    let edge = Edge::start(&lab, &lab.site("", ""))?;
    let target = lab.target(VIP4, 443)?;
    lab.client.run_async(|| async {
        let mut h1 = target.connect(Protocol::Http1).await?;
        let mut h2 = target.connect(Protocol::Http2).await?;
        for _ in 0..REQUESTS / 2 {
            h1.get("/").await?;
            h2.get("/?status=404").await?;
        }
        Ok(())
    })?;
    let scrape = edge.metrics()?;
    let requests = |labels: &[(&str, &str)]| scrape.sum("bailey_http_requests_total", labels);
    ensure!(requests(&[("service", "web"), ("code", "2xx")]) == (REQUESTS / 2) as f64);
    ensure!(requests(&[("service", "web"), ("code", "4xx")]) == (REQUESTS / 2) as f64);
    for backend in &backends {
        let address = backend.address.to_string();
        let counted = requests(&[("pool", "app"), ("backend", &address)]);
        ensure!(counted == backend.count() as f64, "{address} saw {}, counted are {counted}", backend.count());
        ensure!(scrape.sum("bailey_backend_up", &[("backend", &address)]) == 1.0);
    }
    ensure!(backends.iter().map(|backend| backend.count()).sum::<usize>() == REQUESTS);
    ensure!(scrape.sum("bailey_connections_total", &[("service", "web")]) == 2.0);
    ensure!(scrape.sum("bailey_http_request_duration_seconds_count", &[("service", "web")]) == REQUESTS as f64);
    ensure!(scrape.sum("bailey_tls_handshake_duration_seconds_count", &[("service", "web")]) == 2.0);
    wait_for("the connections to be seen closed", PATIENCE, || {
        (edge.metrics().ok()?.sum("bailey_connections_active", &[("service", "web")]) == 0.0).then_some(())
    })
}
