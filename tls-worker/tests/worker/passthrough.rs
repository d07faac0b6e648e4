//! TLS that is the backend's: the edge reads the name, and carries bytes.

use crate::local;
use crate::support::backend::{Backend, read_to_close};
use crate::support::client::*;
use crate::support::hello::{chopped, hello};
use crate::support::process::Worker;
use crate::support::snap::{self, ms};
use crate::support::{soon, tls, until};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use tls_worker::api::{BackendState, Certificate, Report};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A TLS server that says a word and ends.
async fn tells(certificate: &Certificate, alpn: &[&str], word: &'static str) -> Backend {
    Backend::tls(tls::server_with(certificate, alpn), move |mut stream, _| async move {
        let _ = stream.write_all(word.as_bytes()).await;
        let _ = stream.shutdown().await;
        read_to_close(&mut stream).await;
    })
    .await
}

/// Says back what it is told, and its end.
async fn echo() -> Backend {
    Backend::raw(|stream, _| async move {
        let (mut read, mut write) = stream.into_split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await
}

fn failures(report: &Report) -> Vec<(&str, u64)> {
    report.services[0].handshake_failures.iter().map(|(reason, n)| (&**reason, *n)).collect()
}

/// What comes back for these bytes.
async fn answer(at: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    soon("an end", read_to_close(&mut stream)).await
}

#[test]
fn the_session_is_between_client_and_backend_however_the_hello_comes() {
    local(async {
        let certificate = tls::certificate(&["a.test"]);
        let backend = tells(&certificate, &[], "hello").await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::passthrough(at, &[backend.address])).await;
        for each in [1, 50, 16_000] {
            let config = tls::client(&[&certificate], &[], rustls::ALL_VERSIONS);
            let mut stream = tls_on(chopped(at, each).await, "a.test", config).await.unwrap();
            let seen = &stream.get_ref().1.peer_certificates().unwrap()[0];
            assert_eq!(seen.as_ref(), certificate.chain[0].0);
            assert_eq!(read_all(&mut stream).await, "hello");
        }
        let report = worker.report().await;
        assert_eq!((report.services[0].connections, report.backends[0].connections), (3, 3));
        assert_eq!(report.services[0].handshakes, [], "no handshake was the edge's");
    });
}

#[test]
fn name_and_protocol_say_which_pool() {
    local(async {
        let names = ["a.test", "*.b.test", "127.0.0.1"];
        let certificate = tls::certificate(&names);
        let word = |word| tells(&certificate, &["x", "y"], word);
        let backends = [word("exact").await, word("wildcard").await, word("x").await, word("default").await];
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::passthrough(at, &[]);
        snapshot.pools = backends.iter().map(|b| snap::pool(&b.address.to_string(), &[b.address])).collect();
        let routes = [(&["a.test"][..], 0), (&["*.b.test"], 1), (&[], 2), (&[], 3)];
        snapshot.services[0].routes =
            routes.iter().map(|(hosts, pool)| snap::route(&pool.to_string(), hosts, None, *pool)).collect();
        snapshot.services[0].routes[2].alpn = vec!["x".into()];
        worker.apply(&snapshot).await;
        for (name, alpn, want) in [
            ("a.test", &["x"][..], "exact"),
            ("A.TEST", &[], "exact"),
            ("c.b.test", &[], "wildcard"),
            ("127.0.0.1", &["y", "x"], "x"),
            ("127.0.0.1", &["y"], "default"),
            ("127.0.0.1", &[], "default"),
        ] {
            let mut stream = try_tls(at, name, tls::client(&[&certificate], alpn, rustls::ALL_VERSIONS)).await.unwrap();
            assert_eq!(read_all(&mut stream).await, want, "{name} {alpn:?}");
        }
        // Without a default.
        snapshot.services[0].routes.truncate(2);
        snapshot.services[0].routes[1].alpn = vec!["x".into()];
        worker.apply(&snapshot).await;
        assert_eq!(answer(at, &hello(None, &[])).await, [21, 3, 3, 0, 2, 2, 112]);
        assert_eq!(answer(at, &hello(Some("other.test"), &["x"])).await, [21, 3, 3, 0, 2, 2, 112]);
        assert_eq!(answer(at, &hello(Some("c.b.test"), &["y"])).await, [21, 3, 3, 0, 2, 2, 120]);
        let report = worker.report().await;
        assert_eq!(failures(&report), [("no_shared_protocol", 1), ("unknown_name", 2)]);
    });
}

#[test]
fn what_is_no_clienthello_is_refused_and_counted() {
    local(async {
        let backend = echo().await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::passthrough(at, &[backend.address]);
        snapshot.services[0].timeouts.handshake = ms(200);
        snapshot.handshakes.max_client_hello = 300;
        worker.apply(&snapshot).await;
        let http = bare(at, "GET / HTTP/1.1\r\n\r\n").await;
        assert!(http.starts_with("HTTP/1.1 400 ") && http.ends_with("use https:// to speak to it"), "{http}");
        assert_eq!(answer(at, b"\0").await, b"");
        assert_eq!(answer(at, &hello(Some(&"long.".repeat(20)), &[])).await, [21, 3, 3, 0, 2, 2, 50]);
        assert_eq!(answer(at, &[22, 3, 1, 0, 1, 2]).await, [21, 3, 3, 0, 2, 2, 50]);
        let whole = hello(None, &[]);
        assert_eq!(answer(at, &whole[..whole.len() - 1]).await, b"", "not whole in time");
        drop(TcpStream::connect(at).await.unwrap());
        let want = [("timeout", 1), ("closed", 1), ("not_tls", 1), ("plain_http", 1), ("too_long", 1), ("other", 1)];
        until("all are counted", async || failures(&worker.report().await) == want).await;
        assert_eq!(backend.connections(), 0);
        assert_eq!(worker.report().await.services[0].timeouts, [("handshake".to_string(), 1)]);
    });
}

#[test]
fn without_a_backend_the_client_is_told_and_a_dead_one_is_passed_over() {
    local(async {
        let backend = echo().await;
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::passthrough(at, &[dead, backend.address]);
        worker.apply(&snapshot).await;
        let first = hello(Some("a.test"), &[]);
        for _ in 0..2 {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(&first).await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(soon("an echo", read_to_close(&mut stream)).await, first);
        }
        let of_dead = worker.report().await.backends.into_iter().find(|b| b.backend == dead).unwrap();
        assert_eq!(of_dead.failures, [("connect".to_string(), 1)]);
        snapshot.pools[0].backends[1].state = BackendState::Down;
        worker.apply(&snapshot).await;
        assert_eq!(answer(at, &first).await, [21, 3, 3, 0, 2, 2, 80]);
        snapshot.pools[0].backends[0].state = BackendState::Down;
        worker.apply(&snapshot).await;
        assert_eq!(answer(at, &first).await, [21, 3, 3, 0, 2, 2, 80]);
        assert_eq!(worker.report().await.services[0].rejected, [("no_backend".to_string(), 1)]);
    });
}

#[test]
fn what_passes_is_counted_also_where_it_is_spliced_and_halves_end_alone() {
    local(async {
        let backend = echo().await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::passthrough(at, &[backend.address])).await;
        let bytes: Vec<u8> = (0..8u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let all = [hello(None, &[]), bytes].concat();
        let (mut read, mut write) = TcpStream::connect(at).await.unwrap().into_split();
        let send = async {
            write.write_all(&all).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let ((), got) = soon("an echo", async { tokio::join!(send, read_to_close(&mut read)) }).await;
        assert!(got == all, "{} of {} bytes came back, or others", got.len(), all.len());
        until("it is over", async || {
            let report = worker.report().await;
            let service = &report.services[0];
            (service.connections_active, report.backends[0].active, report.backends[0].connections_open) == (0, 0, 0)
        })
        .await;
        let service = worker.report().await.services.remove(0);
        assert_eq!((service.received_bytes, service.sent_bytes), (all.len() as u64, all.len() as u64));
    });
}

#[test]
fn silence_both_ways_ends_a_connection_and_a_drain_cuts_it() {
    local(async {
        let backend = echo().await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::passthrough(at, &[backend.address]);
        worker.apply(&snapshot).await;
        let first = hello(None, &[]);
        let open = async || {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(&first).await.unwrap();
            soon("an echo", stream.read_exact(&mut vec![0; first.len()])).await.unwrap();
            stream
        };
        let mut kept = open().await;
        snapshot.pools[0].timeouts.idle = ms(150);
        worker.apply(&snapshot).await;
        let mut idle = open().await;
        for _ in 0..5 {
            tokio::time::sleep(ms(60)).await;
            idle.write_all(b"x").await.unwrap();
        }
        assert_eq!(read_all(&mut idle).await, "xxxxx");
        assert_eq!(worker.report().await.services[0].timeouts, [("idle".to_string(), 1)]);
        // The other began under a longer timeout.
        kept.write_all(b"y").await.unwrap();
        assert_eq!(soon("an echo", kept.read_u8()).await.unwrap(), b'y');
        worker.send(tls_worker::api::Command::Drain { grace_ms: 100 }).await;
        assert_eq!(read_all(&mut kept).await, "");
        assert!(worker.ended().await.success());
    });
}

#[test]
fn a_proxy_header_goes_ahead_where_the_pool_wants_it() {
    local(async {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let note = seen.clone();
        let backend = Backend::raw(move |mut stream, _| {
            let note = note.clone();
            async move {
                let got = read_to_close(&mut stream).await;
                note.borrow_mut().push(got);
            }
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::passthrough(at, &[backend.address]);
        snapshot.pools[0].proxy_version = Some(tls_worker::api::ProxyVersion::V2);
        worker.apply(&snapshot).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        let first = hello(Some("a.test"), &["h2"]);
        stream.write_all(&first).await.unwrap();
        let client = stream.local_addr().unwrap();
        drop(stream);
        until("the backend has it", async || !seen.borrow().is_empty()).await;
        let got = seen.borrow_mut().remove(0);
        let header = ppp::v2::Header::try_from(got.as_slice()).unwrap();
        assert_eq!(header.addresses, (client, at).into());
        let tlvs: Vec<_> = header.tlvs().map(|t| t.unwrap()).map(|t| (t.kind, t.value.into_owned())).collect();
        assert_eq!(tlvs, [(2, b"a.test".to_vec())]);
        assert_eq!(&got[header.len()..], first);
    });
}
