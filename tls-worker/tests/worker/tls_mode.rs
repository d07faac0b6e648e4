//! TLS that ends at the edge, and what is in it goes on as it is.

use crate::local;
use crate::support::backend::{Backend, read_to_close};
use crate::support::client::{self, *};
use crate::support::process::Worker;
use crate::support::{snap, soon, tls, until};
use std::cell::RefCell;
use std::rc::Rc;
use tls_worker::api::UpstreamTls;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Says back in upper case what it is told, then `bye`, and ends.
async fn shout(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        buffer[..n].make_ascii_uppercase();
        stream.write_all(&buffer[..n]).await.unwrap();
    }
    let _ = stream.write_all(b"bye").await;
    let _ = stream.shutdown().await;
}

#[test]
fn bytes_go_both_ways_to_backends_with_and_without_tls() {
    local(async {
        let (front, behind) = (tls::certificate(&["a.test"]), tls::certificate(&["backend.test"]));
        let clear = Backend::raw(|stream, _| shout(stream)).await;
        let secure = Backend::tls(tls::server(&behind), |stream, _| shout(stream)).await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut with_tls = snap::tls_mode(at, front.clone(), &[], &[secure.address]);
        let (server_name, roots) = (Some("backend.test".into()), vec![behind.chain[0].clone()]);
        with_tls.pools[0].tls = Some(UpstreamTls { verify: true, roots, server_name, ..UpstreamTls::default() });
        for snapshot in [snap::tls_mode(at, front.clone(), &[], &[clear.address]), with_tls] {
            worker.apply(&snapshot).await;
            let mut stream = client::tls(at, "a.test", &front, &[]).await;
            let bytes = vec![b'x'; 1 << 20];
            let (mut read, mut write) = tokio::io::split(&mut stream);
            // close_notify becomes the backend's end, and the backend's end close_notify.
            let send = async {
                write.write_all(&bytes).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let both = async { tokio::join!(send, read.read_to_end(&mut got)).1 };
            soon("an echo", both).await.unwrap();
            assert!(got == [bytes.to_ascii_uppercase(), b"bye".to_vec()].concat());
            until("it is over", async || worker.report().await.services[0].connections_active == 0).await;
        }
        let report = worker.report().await;
        assert_eq!(report.services[0].handshakes, [("1.3".to_string(), 2)]);
        assert!(report.backends.iter().all(|b| (b.active, b.connections_open) == (0, 0) && b.failures.is_empty()));
    });
}

#[test]
fn what_was_agreed_on_says_which_pool_and_without_one_it_is_closed() {
    local(async {
        let certificate = tls::certificate(&["a.test", "b.test"]);
        let tells = |word: &'static str| {
            Backend::raw(move |mut stream, _| async move { stream.write_all(word.as_bytes()).await.unwrap() })
        };
        let (imap, other) = (tells("imap").await, tells("other").await);
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::tls_mode(at, certificate.clone(), &["imap", "managesieve"], &[imap.address]);
        snapshot.pools.push(snap::pool("other", &[other.address]));
        snapshot.services[0].routes =
            vec![snap::route("0", &["a.test"], None, 0), snap::route("1", &["a.test"], None, 1)];
        snapshot.services[0].routes[0].alpn = vec!["imap".into()];
        worker.apply(&snapshot).await;
        for (name, alpn, want) in [
            ("a.test", &["managesieve", "imap"][..], "imap"),
            ("a.test", &["managesieve"], "other"),
            ("a.test", &[], "other"),
            ("b.test", &["imap"], ""),
        ] {
            let mut stream = client::tls(at, name, &certificate, alpn).await;
            assert_eq!(read_all(&mut stream).await, want, "{name} {alpn:?}");
        }
        assert_eq!(worker.report().await.services[0].rejected, [("no_route".to_string(), 1)]);
    });
}

#[test]
fn a_backend_that_breaks_off_is_no_proper_end() {
    local(async {
        let certificate = tls::certificate(&["a.test"]);
        let backend = Backend::tls(tls::server(&certificate), |mut stream, _| async move {
            stream.write_all(b"part").await.unwrap();
            // Without close_notify.
            let _ = stream.get_mut().0.shutdown().await;
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::tls_mode(at, certificate.clone(), &[], &[backend.address]);
        snapshot.pools[0].tls = Some(UpstreamTls::default());
        worker.apply(&snapshot).await;
        let mut stream = client::tls(at, "a.test", &certificate, &[]).await;
        let mut got = Vec::new();
        let error = soon("an end", stream.read_to_end(&mut got)).await.unwrap_err();
        assert_eq!((got.as_slice(), error.kind()), (&b"part"[..], std::io::ErrorKind::UnexpectedEof));
        assert_eq!(worker.report().await.backends[0].failures, [("reset".to_string(), 1)]);
    });
}

#[test]
fn a_proxy_header_goes_ahead_of_the_backends_own_tls() {
    local(async {
        let certificate = tls::certificate(&["a.test"]);
        let seen = Rc::new(RefCell::new(Vec::new()));
        let (note, config) = (seen.clone(), tls::server(&certificate));
        let backend = Backend::raw(move |mut stream, _| {
            let (note, config) = (note.clone(), config.clone());
            async move {
                let mut header = vec![0; 16];
                stream.read_exact(&mut header).await.unwrap();
                header.resize(16 + usize::from(u16::from_be_bytes([header[14], header[15]])), 0);
                stream.read_exact(&mut header[16..]).await.unwrap();
                note.borrow_mut().push(header);
                let mut stream = tokio_rustls::TlsAcceptor::from(config).accept(stream).await.unwrap();
                stream.write_all(b"hello").await.unwrap();
                stream.shutdown().await.unwrap();
                read_to_close(&mut stream).await;
            }
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::tls_mode(at, certificate.clone(), &["imap"], &[backend.address]);
        snapshot.pools[0].tls = Some(UpstreamTls::default());
        snapshot.pools[0].proxy_version = Some(tls_worker::api::ProxyVersion::V2);
        worker.apply(&snapshot).await;
        let mut stream = client::tls(at, "a.test", &certificate, &["imap"]).await;
        let client = stream.get_ref().0.local_addr().unwrap();
        assert_eq!(read_all(&mut stream).await, "hello");
        let got = seen.borrow_mut().remove(0);
        let header = ppp::v2::Header::try_from(got.as_slice()).unwrap();
        assert_eq!(header.addresses, (client, at).into());
        let tlvs: Vec<_> = header.tlvs().map(|t| t.unwrap()).map(|t| (t.kind, t.value.into_owned())).collect();
        let ssl = [&[1, 0, 0, 0, 1, 0x21, 0, 7][..], b"TLSv1.3"].concat();
        assert_eq!(tlvs, [(1, b"imap".to_vec()), (2, b"a.test".to_vec()), (0x20, ssl)]);
    });
}
