//! What keeps a client from costing more than it brings: bounds of handshakes, of a ClientHello, of empty records; and
//! what keeps keys in the worker's memory.

use super::support::client::{ask, get, h1_on, try_tls};
use super::support::{process::Worker, tls, until};
use super::{local, tls::serving};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;
use rustls::version::{TLS12, TLS13};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn count(worker: &mut Worker, what: fn(&tls_worker::api::ServiceReport) -> &[(String, u64)], word: &str) -> u64 {
    let report = worker.report().await;
    report.services.first().map_or(0, |s| what(s).iter().filter(|(w, _)| w == word).map(|(_, n)| n).sum())
}

/// A client that connected and says nothing: its handshake is under way.
async fn silent(at: SocketAddr) -> TcpStream {
    TcpStream::connect(at).await.unwrap()
}

#[test]
fn handshakes_of_one_source_and_of_all_are_bounded_and_what_is_over_is_counted() {
    local(async {
        let certificate = tls::certificate(&["a.test"]);
        let (mut worker, at, mut snapshot, _backend) = serving(vec![certificate.clone()]).await;
        // A connection that is established counts no more.
        let config = tls::client(&[&certificate], &["http/1.1"], &[&TLS13]);
        let mut established = h1_on(try_tls(at, "a.test", config.clone()).await.unwrap()).await;
        for (per_source, at_once, word) in [(2, 100, "per_source"), (100, 2, "at_once")] {
            (snapshot.handshakes.per_source, snapshot.handshakes.at_once) = (per_source, at_once);
            worker.apply(&snapshot).await;
            let held = [silent(at).await, silent(at).await];
            until("both are under way", async || worker.report().await.threads[0].handshakes_active == 2).await;
            let mut third = silent(at).await;
            // Closed, or reset where the edge did not read what was sent.
            assert!(matches!(third.read(&mut [0]).await, Ok(0) | Err(_)));
            assert_eq!(count(&mut worker, |s| &s.handshakes_refused, word).await, 1, "{word}");
            assert_eq!(ask(&mut established, get("a.test", "/")).await.body, "hello");
            drop(held);
            until("there is room again", async || worker.report().await.threads[0].handshakes_active == 0).await;
            assert!(try_tls(at, "a.test", config.clone()).await.is_ok());
        }
    });
}

#[test]
fn a_client_hello_over_the_bound_is_refused() {
    local(async {
        let certificate = tls::certificate(&["a.test"]);
        let (mut worker, at, mut snapshot, _backend) = serving(vec![certificate.clone()]).await;
        snapshot.handshakes.max_client_hello = 4096;
        worker.apply(&snapshot).await;
        let mut client = silent(at).await;
        // A ClientHello of 60,000 bytes, as its header says, that comes piece by piece.
        let mut hello = vec![1, 0, 0xea, 0x60];
        hello.resize(8000, 3);
        for part in hello.chunks(1000) {
            let length = (part.len() as u16).to_be_bytes();
            // It may be refused before the last piece is on its way.
            let _ = client.write_all(&[&[22, 3, 1][..], &length, part].concat()).await;
        }
        assert!(matches!(client.read(&mut [0]).await, Ok(0) | Err(_)));
        assert_eq!(count(&mut worker, |s| &s.handshake_failures, "too_long").await, 1);
    });
}

#[test]
fn records_that_hold_nothing_end_the_connection() {
    local(async {
        let certificate = tls::certificate(&["a.test"]);
        let (_worker, at, _, _backend) = serving(vec![certificate.clone()]).await;
        let mut config = tls::client(&[&certificate], &["http/1.1"], &[&TLS13]);
        config.enable_secret_extraction = true;
        let (mut stream, session) = try_tls(at, "a.test", config).await.unwrap().into_inner();
        let (mut sequence, secrets) = session.dangerous_extract_secrets().unwrap().tx;
        let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
            panic!("rustls' client wants AES-256-GCM most")
        };
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap());
        let mut written = 0;
        // RFC 8446, 5.2: application data whose content is empty. rustls takes 32 in a row, as BoringSSL does.
        while written < 1 << 20 {
            let head = [23, 3, 3, 0, 17];
            let mut nonce: [u8; 12] = iv.as_ref().try_into().unwrap();
            nonce[4..].iter_mut().zip(sequence.to_be_bytes()).for_each(|(n, s)| *n ^= s);
            let mut record = vec![23];
            let nonce = Nonce::assume_unique_for_key(nonce);
            key.seal_in_place_append_tag(nonce, Aad::from(head), &mut record).unwrap();
            sequence += 1;
            if stream.write_all(&[&head[..], &record].concat()).await.is_err() {
                break;
            }
            written += head.len() + record.len();
        }
        assert!(written < 1 << 20, "nobody ended it");
    });
}

#[test]
fn what_a_handshake_agreed_on_is_counted() {
    local(async {
        let certificate = tls::certificate(&["a.test"]);
        let (mut worker, at, _, _backend) = serving(vec![certificate.clone()]).await;
        for versions in [&TLS12, &TLS13] {
            let config = tls::client(&[&certificate], &["http/1.1"], &[versions]);
            let mut connection = h1_on(try_tls(at, "a.test", config).await.unwrap()).await;
            assert_eq!(ask(&mut connection, get("a.test", "/")).await.body, "hello");
        }
        assert_eq!(count(&mut worker, |s| &s.sessions, "full").await, 2);
        assert_eq!(count(&mut worker, |s| &s.groups, "x25519").await, 2);
    });
}

#[test]
fn keys_do_not_leave_memory_by_a_core_dump() {
    local(async {
        let worker = Worker::start(1).await;
        assert_eq!(worker.limit("Max core file size"), ["0", "0"]);
    });
}
