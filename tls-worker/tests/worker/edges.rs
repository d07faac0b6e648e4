//! The edges of a connection: PROXY headers, who the client is, what backends are told, limits of clients.

use crate::local;
use crate::support::backend::{Backend, full, read_to_close};
use crate::support::client::{ask, bare, get, h1, h1_on, once, read_all};
use crate::support::process::Worker;
use crate::support::snap::{self, ms};
use crate::support::{client, tls, until};
use http::{Request, Response};
use std::net::SocketAddr;
use tls_worker::api::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xc0\0\x02\x01\xc6\x33\x64\x02\x12\x67\x01\xbb\xee\0\0";

fn from_here(required: bool) -> Option<ProxyHeader> {
    let from = vec!["127.0.0.0/8".parse().unwrap()];
    Some(ProxyHeader { from, required, timeout: ms(20_000), max_size: 512 })
}

/// Says what it was told of the client.
async fn telling() -> Backend {
    Backend::http(|request: Request<hyper::body::Incoming>| async move {
        let names = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "forwarded"];
        let more = ["x-real-ip", "client-ip", "x-request-id"];
        let told: Vec<String> = names
            .iter()
            .chain(&more)
            .flat_map(|name| request.headers().get_all(*name).iter().map(move |value| (name, value)))
            .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
            .collect();
        Response::new(full(told.join(" ")))
    })
    .await
}

fn count(pairs: &[(String, u64)], name: &str) -> u64 {
    pairs.iter().find(|(word, _)| word == name).map_or(0, |(_, n)| *n)
}

/// A connection that begins with these bytes, cut in pieces of `piece`.
async fn begun(at: SocketAddr, bytes: &[u8], piece: usize) -> TcpStream {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for part in bytes.chunks(piece) {
        stream.write_all(part).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream
}

#[test]
fn a_proxy_header_tells_the_client_of_requests_whatever_its_version_and_cut() {
    local(async {
        let mut worker = Worker::start(1).await;
        let (at, backend) = (worker.listen().await, telling().await);
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.services[0].proxy_header = from_here(true);
        worker.apply(&snapshot).await;
        let v1: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n";
        let want = "x-forwarded-for=192.0.2.1 x-forwarded-proto=http x-forwarded-host=a.test x-forwarded-port=443";
        for header in [v1, V2] {
            for piece in [1, 7, 1000] {
                let mut on = h1_on(begun(at, header, piece).await).await;
                assert_eq!(ask(&mut on, get("a.test", "/")).await.body, want);
            }
        }
        // Header and request in one segment.
        let whole = [V2, b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n"].concat();
        assert!(read_all(&mut begun(at, &whole, 1000).await).await.ends_with(want));
        let own = h1_on(begun(at, b"PROXY UNKNOWN\r\n", 1000).await).await;
        let told = ask(&mut { own }, get("a.test", "/")).await.body;
        assert!(told.starts_with("x-forwarded-for=127.0.0.1 "), "{told}");
        // None, and a wrong one: nothing is answered.
        for bad in
            ["GET / HTTP/1.1\r\nhost: a.test\r\n\r\n", "PROXY TCP4 nobody\r\n", "\r\n\r\n\0\r\nQUIT\n\x21\x11\x7f\x00"]
        {
            assert_eq!(bare(at, bad).await, "");
        }
        let told = worker.report().await.services[0].proxy_headers.clone();
        let by = |name| count(&told, name);
        assert_eq!((by("accepted"), by("local"), by("missing"), by("malformed"), by("too_long")), (7, 1, 1, 1, 1));
    });
}

#[test]
fn who_is_not_trusted_with_a_proxy_header_is_refused() {
    local(async {
        let mut worker = Worker::start(1).await;
        let (at, backend) = (worker.listen().await, telling().await);
        let mut snapshot = snap::http(at, &[backend.address]);
        let mut rules = from_here(false).unwrap();
        rules.from = vec!["10.0.0.0/8".parse().unwrap()];
        snapshot.services[0].proxy_header = Some(rules.clone());
        worker.apply(&snapshot).await;
        assert_eq!(once(at, "/").await.status(), 200);
        assert_eq!(
            bare(at, "PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n").await,
            ""
        );
        rules.required = true;
        snapshot.services[0].proxy_header = Some(rules);
        worker.apply(&snapshot).await;
        assert_eq!(bare(at, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await, "");
        let service = worker.report().await.services[0].clone();
        assert_eq!(count(&service.proxy_headers, "untrusted"), 2);
        // One that does not come.
        let mut rules = from_here(true).unwrap();
        rules.timeout = ms(50);
        snapshot.services[0].proxy_header = Some(rules);
        worker.apply(&snapshot).await;
        assert_eq!(read_all(&mut begun(at, b"PROXY TCP4 ", 100).await).await, "");
        until("it is counted", async || count(&worker.report().await.services[0].proxy_headers, "timeout") == 1).await;
    });
}

#[test]
fn a_proxy_header_goes_ahead_of_tls_and_on_to_the_next() {
    local(async {
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let certificate = tls::certificate(&["a.test"]);
        let backend = telling().await;
        let mut snapshot = snap::https(at, vec![certificate.clone()], &[backend.address]);
        snapshot.services[0].proxy_header = from_here(true);
        worker.apply(&snapshot).await;
        let config = || tls::client(&[&certificate], &["http/1.1"], rustls::ALL_VERSIONS);
        let stream = begun(at, V2, 5).await;
        let mut on = h1_on(client::tls_on(stream, "a.test", config()).await.unwrap()).await;
        let told = ask(&mut on, get("a.test", "/")).await.body;
        assert!(told.starts_with("x-forwarded-for=192.0.2.1 x-forwarded-proto=https"), "{told}");

        // Bytes, with the header of another version ahead of them.
        const SAID: &str = "PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\nping";
        let line = Backend::raw(|mut stream, _| async move {
            let mut said = vec![0; SAID.len()];
            stream.read_exact(&mut said).await.unwrap();
            stream.write_all(&said).await.unwrap();
        })
        .await;
        let mut snapshot = snap::http(at, &[line.address]);
        snapshot.services[0].mode = Mode::Tcp;
        snapshot.services[0].proxy_header = from_here(true);
        snapshot.pools[0].proxy_version = Some(ProxyVersion::V1);
        worker.apply(&snapshot).await;
        let mut stream = begun(at, &[V2, b"ping"].concat(), 1000).await;
        assert_eq!(read_all(&mut stream).await, SAID);
    });
}

#[test]
fn trusted_proxies_tell_the_client_and_others_do_not() {
    local(async {
        let mut worker = Worker::start(1).await;
        let (at, backend) = (worker.listen().await, telling().await);
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.services[0].forwarding = Forwarding {
            forwarded: true,
            x_real_ip: true,
            client_ip_header: Some("client-ip".into()),
            request_id_header: Some("x-request-id".into()),
            ..Forwarding::default()
        };
        worker.apply(&snapshot).await;
        let lie = || {
            let request = Request::builder().uri("/").header("host", "a.test");
            let request = request.header("x-forwarded-for", "203.0.113.9, 192.0.2.1, 10.0.0.9");
            let request = request.header("x-forwarded-proto", "https").header("forwarded", "for=203.0.113.9");
            let request = request.header("client-ip", "203.0.113.9").header("x-request-id", "mine");
            request.header("x-forwarded-port", "8443").header("x-real-ip", "203.0.113.9").body(client::empty()).unwrap()
        };
        let told = ask(&mut h1(at).await, lie()).await.body;
        let (told, id) = told.rsplit_once(" x-request-id=").unwrap();
        assert_eq!(
            told,
            format!(
                "x-forwarded-for=127.0.0.1 x-forwarded-proto=http x-forwarded-host=a.test x-forwarded-port={} \
                 forwarded=for=127.0.0.1;host=\"a.test\";proto=http x-real-ip=127.0.0.1 client-ip=127.0.0.1",
                at.port()
            )
        );
        assert_eq!(id.len(), 32);
        let forwarding = &mut snapshot.services[0].forwarding;
        forwarding.trusted_proxies = ["127.0.0.1/32", "10.0.0.0/8"].map(|n| n.parse().unwrap()).to_vec();
        worker.apply(&snapshot).await;
        assert_eq!(
            ask(&mut h1(at).await, lie()).await.body,
            "x-forwarded-for=192.0.2.1, 10.0.0.9, 127.0.0.1 x-forwarded-proto=https x-forwarded-host=a.test \
             x-forwarded-port=8443 forwarded=for=192.0.2.1;host=\"a.test\";proto=https, for=10.0.0.9, for=127.0.0.1 \
             x-real-ip=192.0.2.1 client-ip=192.0.2.1 x-request-id=mine"
        );
        snapshot.services[0].forwarding = Forwarding { x_forwarded: false, ..Forwarding::default() };
        worker.apply(&snapshot).await;
        assert_eq!(ask(&mut h1(at).await, lie()).await.body, "client-ip=203.0.113.9 x-request-id=mine");
    });
}

#[test]
fn rates_are_kept_over_all_threads_by_the_address_that_counts() {
    local(async {
        let mut worker = Worker::start(2).await;
        let ((_, one), (_, other)) = (worker.listen_on(0, "127.0.0.1").await, worker.listen_on(1, "127.0.0.1").await);
        let backend = telling().await;
        let mut snapshot = snap::http(one, &[backend.address]);
        let service = &mut snapshot.services[0];
        service.addresses.push(ListenAddress { address: other.ip(), port: Some(other.port()) });
        service.forwarding.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        service.client_limits.source_requests = Some(Rate { per_second: 1, burst: 4 });
        worker.apply(&snapshot).await;
        let (mut first, mut second) = (h1(one).await, h1(other).await);
        let from = |address: &str| {
            let request = Request::builder().uri("/").header("host", "a.test").header("x-forwarded-for", address);
            request.body(client::empty()).unwrap()
        };
        let began = std::time::Instant::now();
        let mut passed = 0;
        let refused = loop {
            let on = if passed % 2 == 0 { &mut first } else { &mut second };
            let answer = ask(on, from("192.0.2.1")).await;
            if answer.status() != 200 {
                break answer;
            }
            passed += 1;
        };
        assert!((4..=5 + began.elapsed().as_secs()).contains(&passed), "{passed}");
        assert_eq!((refused.status(), refused.header("retry-after")), (429, Some("1")));
        assert_eq!(ask(&mut first, from("192.0.2.2")).await.status(), 200);
        let service = worker.report().await.services[0].clone();
        assert_eq!((count(&service.limited, "source_requests"), count(&service.rejected, "limited")), (1, 1));
        assert!(service.limited_sources >= 1);
        // Whoever may have the whole burst again is forgotten.
        until("it is", async || worker.report().await.services[0].limited_sources == 0).await;

        snapshot.services[0].client_limits =
            ClientLimits { requests: Some(Rate { per_second: 1, burst: 1 }), ..ClientLimits::default() };
        worker.apply(&snapshot).await;
        let mut code = 200;
        while code == 200 {
            code = ask(&mut first, from("192.0.2.3")).await.status();
        }
        assert_eq!(code, 429);
        assert_eq!(count(&worker.report().await.services[0].limited, "service_requests"), 1);
    });
}

#[test]
fn connections_of_a_source_and_of_all_are_bounded_over_threads() {
    local(async {
        let mut worker = Worker::start(2).await;
        let ((_, one), (_, other)) = (worker.listen_on(0, "127.0.0.1").await, worker.listen_on(1, "127.0.0.1").await);
        let backend = telling().await;
        let mut snapshot = snap::http(one, &[backend.address]);
        let service = &mut snapshot.services[0];
        service.addresses.push(ListenAddress { address: other.ip(), port: Some(other.port()) });
        service.client_limits.source_connections = Some(2);
        worker.apply(&snapshot).await;
        let (mut first, mut second) = (h1(one).await, h1(other).await);
        assert_eq!(ask(&mut first, get("a.test", "/")).await.status(), 200);
        assert_eq!(ask(&mut second, get("a.test", "/")).await.status(), 200);
        assert_eq!(bare(one, "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await, "");
        assert_eq!(count(&worker.report().await.services[0].limited, "source_connections"), 1);
        drop(first);
        // Room again, as soon as the worker has seen the end.
        let again = "GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";
        until("there is room", async || bare(other, again).await.starts_with("HTTP/1.1 200")).await;
    });
}

#[test]
fn tcp_mode_carries_bytes_both_ways_and_lets_the_server_speak_first() {
    local(async {
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let backend = Backend::raw(|mut stream, _| async move {
            stream.write_all(b"220 hello\r\n").await.unwrap();
            let got = read_to_close(&mut stream).await;
            stream.write_all(format!("got {}", got.len()).as_bytes()).await.unwrap();
        })
        .await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.services[0].mode = Mode::Tcp;
        worker.apply(&snapshot).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        let mut hello = [0; 11];
        stream.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"220 hello\r\n");
        stream.write_all(&vec![7; 1 << 20]).await.unwrap();
        // One half ends, the other goes on.
        stream.shutdown().await.unwrap();
        assert_eq!(read_all(&mut stream).await, "got 1048576");
        // Nobody there: closed, and counted.
        snapshot.pools[0].backends.clear();
        worker.apply(&snapshot).await;
        assert_eq!(read_all(&mut TcpStream::connect(at).await.unwrap()).await, "");
        assert_eq!(count(&worker.report().await.services[0].rejected, "no_backend"), 1);
    });
}
