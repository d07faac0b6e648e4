//! A scrape, line by line.

use super::*;
use crate::config::{HealthCheck, Probe};
use crate::datapath::{Counters, Description, PacketCounter};
use crate::health::Counts;
use crate::names::Note;
use crate::reconcile::{Agents, HealthNote, Intent, Observed, Overlay, PoolChange, State, plan, testing};
use crate::supervisor::{SeatView, WorkerView};
use prometheus::proto::MetricType;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::SystemTime;
use tls_worker::api::{
    AccessLogReport, AuthorizerReport, BackendReport, Coding, CompressionReport, Confinement, Histogram, PoolReport,
    Report, RequestReport, ServiceReport, SessionReport, ThreadReport,
};
use tokio::time::Instant;

/// An edge of which everything is known that can be.
fn full() -> State {
    let backend = SocketAddr::from(([10, 0, 0, 1], 80));
    let mut config = testing::config(&["web"], [(backend, 3)].into());
    config.pools[0].health = Some(HealthCheck::new(Probe::Tcp).into());
    let overlay = Overlay::default().with(&config, "p", backend, PoolChange::Drain { seconds: None }).unwrap();
    let health = Default::default();
    let intent = Intent { config: &config, overlay: &overlay, health: &health, agents: &Agents::default() };
    let plan = plan(intent, &Observed::default()).unwrap();
    let mut seconds = Histogram::default();
    [0.0001, 0.3, 60.0].into_iter().for_each(|s| seconds.observe(s));
    let some = |word: &str| vec![(word.to_owned(), 2)];
    let report = Report {
        confinement: Some(Confinement { missing: vec!["no Landlock".into()] }),
        threads: vec![ThreadReport { index: 0, cpu: Some(1), connections: 9, ..Default::default() }],
        services: vec![ServiceReport {
            service: "web".into(),
            handshakes: some("1.3"),
            handshake_failures: some("no_shared_cipher"),
            handshake_seconds: seconds.clone(),
            rejected: some("bad_host"),
            timeouts: some("idle"),
            proxy_headers: some("untrusted"),
            limited: some("source_requests"),
            limited_sources: 3,
            http2_abuse: some("ping"),
            compression: vec![CompressionReport { coding: Coding::Br, responses: 2, bytes_in: 900, bytes_out: 90 }],
            compression_busy: 1,
            mirrored: some("answered"),
            invalid_headers: 1,
            ..Default::default()
        }],
        requests: [2, 5]
            .map(|code_class| RequestReport {
                service: "web".into(),
                route: "a\"b\\c\nd".into(),
                pool: "p".into(),
                backend: Some(backend),
                code_class,
                seconds: seconds.clone(),
            })
            .into(),
        backends: vec![BackendReport {
            pool: "p".into(),
            backend,
            active: 1,
            tunnels: 1,
            cut_requests: 1,
            cut_tunnels: 1,
            drain_left_ms: 1,
            connections: 2,
            connections_open: 1,
            failures: some("connect"),
            ejected: 1,
            ejections: some("errors"),
        }],
        pools: vec![PoolReport {
            pool: "p".into(),
            active: 3,
            waiting: 2,
            waits: 5,
            overflows: 1,
            timeouts: 1,
            wait_seconds: seconds.clone(),
            retries: some("connect"),
            denied: 1,
            hedges: some("sent"),
            circuit: some("requests"),
            panic: 1,
        }],
        access_logs: vec![AccessLogReport { log: "main".into(), lines: 7, dropped: 2 }],
        sessions: vec![SessionReport {
            pool: "p".into(),
            entries: 3,
            lookups: some("hit"),
            removed: some("expired"),
            untold: 4,
        }],
        authorizers: vec![AuthorizerReport {
            authorizer: "who".into(),
            outcomes: some("denied"),
            cache: some("joined"),
            failures: some("timeout"),
            seconds: seconds.clone(),
            kept: 3,
        }],
    };
    let key = ("p".to_owned(), backend);
    let seats = vec![SeatView { pid: Some(1), ..Default::default() }];
    let last_gap = Some(Duration::from_millis(30));
    let worker = WorkerView { seats, report: report.into(), last_gap, ..Default::default() };
    worker.sessions.save(&[]);
    let note = Note {
        addresses: [backend.ip()].into(),
        answered: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(77)),
        failing: Some((Instant::now(), "x".into())),
        lookups: [4, 5, 6],
        rejected: 2,
        ..Note::default()
    };
    State {
        started: Instant::now(),
        config: config.into(),
        warnings: [].into(),
        overlay,
        health: [(key.clone(), HealthNote::new(false, "x".into(), Instant::now(), None))].into(),
        checks: [(key, std::sync::Arc::new(Counts::default()))].into(),
        history: Default::default(),
        book: crate::state::Notes { place: Some("/state".into()), trouble: None, lost: None, bytes: 8, writes: (2, 1) },
        changes: (3, 1),
        aside: None,
        checking: Default::default(),
        generation: 7,
        ids: plan.ids,
        datapath: Description::default(),
        counters: Counters {
            packets: vec![
                PacketCounter { service: 1, verdict: "steer_local", packets: 5, bytes: 500 },
                PacketCounter { service: 0, verdict: "not_vip", packets: 6, bytes: 600 },
            ],
            worker_flows: vec![(0, 4)],
            ..Counters::default()
        },
        worker,
        upgrades: (1, 1),
        reloads: (3, 1),
        tls: Default::default(),
        names: [("app.test".to_owned(), note)].into(),
    }
}

fn text(state: &State) -> String {
    let mut text = Vec::new();
    TextEncoder::new().encode(&families(state), &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn the_docs_name_every_metric_with_type_and_labels() {
    let mut documented = BTreeMap::new();
    for line in include_str!("../../../docs/metrics.md").lines().filter(|line| line.starts_with("| `bailey_")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let mut labels: Vec<_> = cells[3].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        labels.sort();
        documented.insert(cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels));
    }
    let mut exposed = BTreeMap::new();
    let all = [full(), testing::forwarding(), testing::ending_tls()];
    let rooms = [(); 2].map(|()| crate::admin::Room::new(8));
    let rooms = super::families_state::of_rooms(&rooms).into_iter().filter_map(super::family::Family::finish);
    for family in all.iter().flat_map(families).chain(rooms) {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            other => panic!("{other:?}"),
        };
        assert_eq!(kind == "counter", family.name().ends_with("_total"), "{}", family.name());
        for metric in family.get_metric() {
            let mut labels: Vec<_> = metric.get_label().iter().map(|pair| pair.name().to_owned()).collect();
            labels.sort();
            exposed.insert(family.name().to_owned(), (kind.to_owned(), labels));
        }
    }
    assert_eq!(exposed, documented);
}

#[test]
fn values_stand_where_they_belong() {
    let text = text(&full());
    for line in [
        "bailey_packets_total{service=\"web\",verdict=\"steer_local\"} 5",
        "bailey_packet_bytes_total{service=\"\",verdict=\"not_vip\"} 600",
        "bailey_backend_state{pool=\"p\",backend=\"10.0.0.1:80\",state=\"draining\"} 1",
        "bailey_backend_state{pool=\"p\",backend=\"10.0.0.1:80\",state=\"up\"} 0",
        "bailey_backend_up{pool=\"p\",backend=\"10.0.0.1:80\"} 0",
        "bailey_backend_weight{pool=\"p\",backend=\"10.0.0.1:80\"} 3",
        "bailey_http_requests_total{service=\"web\",route=\"a\\\"b\\\\c\\nd\",pool=\"p\",backend=\"10.0.0.1:80\",code=\"5xx\"} 3",
        "bailey_http_request_duration_seconds_count{service=\"web\",route=\"a\\\"b\\\\c\\nd\",pool=\"p\"} 6",
        "bailey_tls_handshake_duration_seconds_bucket{service=\"web\",le=\"0.0005\"} 1",
        "bailey_tls_handshake_duration_seconds_bucket{service=\"web\",le=\"10\"} 2",
        "bailey_tls_handshake_duration_seconds_bucket{service=\"web\",le=\"+Inf\"} 3",
        "bailey_config_reloads_total{result=\"refused\"} 1",
        "bailey_access_log_lines_total{log=\"main\"} 7",
        "bailey_access_log_dropped_total{log=\"main\",cause=\"full\"} 2",
        "bailey_sessions{pool=\"p\"} 3",
        "bailey_session_lookups_total{pool=\"p\",result=\"hit\"} 2",
        "bailey_sessions_removed_total{pool=\"p\",cause=\"expired\"} 2",
        "bailey_session_changes_lost_total 4",
        "bailey_authorizer_requests_total{authorizer=\"who\",result=\"denied\"} 2",
        "bailey_authorizer_cache_total{authorizer=\"who\",kind=\"joined\"} 2",
        "bailey_authorizer_cache_entries{authorizer=\"who\"} 3",
        "bailey_compressed_responses_total{service=\"web\",coding=\"br\"} 2",
        "bailey_compressed_bytes_total{service=\"web\",coding=\"br\",direction=\"out\"} 90",
        "bailey_compression_busy_total{service=\"web\"} 1",
        "bailey_dns_lookups_total{name=\"app.test\",result=\"failed\"} 6",
        "bailey_dns_last_answer_timestamp_seconds{name=\"app.test\"} 77",
        "bailey_dns_addresses_rejected_total{name=\"app.test\"} 2",
        "bailey_backend_drain_cut_total{pool=\"p\",backend=\"10.0.0.1:80\",kind=\"tunnel\"} 1",
        "bailey_backend_drain_left_seconds{pool=\"p\",backend=\"10.0.0.1:80\"} 1",
        "bailey_worker_connections_total{worker=\"0\",cpu=\"1\"} 9",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
}

#[test]
fn forwarded_services_and_the_shield_are_counted() {
    let text = text(&testing::forwarding());
    for line in [
        "bailey_backend_packets_total{service=\"dns\",pool=\"q\",backend=\"10.0.0.7:5353\"} 7",
        "bailey_backend_packet_bytes_total{service=\"dns\",pool=\"q\",backend=\"10.0.0.7:5353\"} 700",
        "bailey_backend_flows_total{service=\"dns\",pool=\"q\",backend=\"10.0.0.7:5353\"} 2",
        "bailey_ring_slots{service=\"dns\",backend=\"10.0.0.7:5353\"} 25",
        "bailey_ring_slots_moved{service=\"dns\"} 3",
        "bailey_ring_slots_watched{service=\"dns\"} 4",
        "bailey_flows_remembered_total{service=\"dns\"} 5",
        "bailey_flows_evicted_total{service=\"dns\"} 6",
        "bailey_flows_dead_total{service=\"dns\"} 7",
        "bailey_prefixes 9",
        "bailey_syn_flood{service=\"web\"} 1",
        "bailey_events_lost_total 10",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("bailey_syn_flood{service=\"dns\"}"));
}

#[test]
fn certificates_staples_and_handshakes_are_told() {
    let edge = testing::ending_tls();
    let text = text(&edge);
    let unix = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let expiry = unix(edge.config.certificates[0].facts.not_after);
    let staple = unix(edge.tls.staples.values().find_map(|staple| staple.valid_until).unwrap());
    for line in [
        &format!("bailey_certificate_expiry_timestamp_seconds{{certificate=\"shop\"}} {expiry}"),
        "bailey_certificate_stale{certificate=\"shop\"} 0",
        "bailey_certificate_stale{certificate=\"old\"} 1",
        "bailey_stale_files{kind=\"certificate\"} 1",
        "bailey_stale_files{kind=\"crl\"} 0",
        "bailey_certificate_reloads_total{result=\"applied\"} 3",
        "bailey_certificate_reloads_total{result=\"refused\"} 1",
        &format!("bailey_ocsp_staple_expiry_timestamp_seconds{{certificate=\"shop\"}} {staple}"),
        "bailey_ocsp_staple_expiry_timestamp_seconds{certificate=\"old\"} 0",
        "bailey_ocsp_fetches_total{use=\"client\",result=\"unavailable\"} 0",
        "bailey_backend_tls_unverified{pool=\"p\"} 1",
        "bailey_tls_sessions_total{service=\"web\",session=\"resumed\"} 2",
        "bailey_tls_groups_total{service=\"web\",group=\"X25519MLKEM768\"} 2",
        "bailey_tls_handshakes_refused_total{service=\"web\",reason=\"per_source\"} 2",
        "bailey_tls_client_certs_total{service=\"web\",result=\"verified\"} 2",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
    assert!(!text.to_lowercase().contains("secret"));
}

#[tokio::test]
async fn a_scraper_gets_text_and_others_are_told_where_it_is() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (events, mut asked) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(Event::Query { counters: true, reply }) = asked.recv().await {
            reply.send(full()).unwrap();
        }
    });
    let rooms = [(); 2].map(|()| crate::admin::Room::new(8));
    tokio::spawn(serve(listener, events, rooms));
    let get = |path: &'static str| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    let metrics = get("/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4") && metrics.contains("bailey_worker_up 1"));
    assert!(get("/").await.starts_with("HTTP/1.1 404"));
}
