//! Answers that are made smaller.

use crate::local;
use crate::support::backend::{Backend, full, read_head};
use crate::support::client::*;
use crate::support::process::Worker;
use crate::support::{snap, soon, until};
use http::{Request, Response};
use http_body_util::BodyExt;
use std::io::Read;
use std::rc::Rc;
use tls_worker::api::*;
use tokio::io::AsyncWriteExt;

fn rules(at_once: u32) -> Option<Compression> {
    Some(Compression { codings: ALL_CODINGS.into(), types: vec!["text/*".into()], min_size: 100, at_once })
}

fn accepting(coding: &str, path: &str) -> Request<Body> {
    Request::get(path).header("host", "a").header("accept-encoding", coding).body(empty()).unwrap()
}

fn decode(coding: &str, bytes: &[u8]) -> String {
    let mut text = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut text).map(drop),
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut text).map(drop),
        "zstd" => zstd::stream::copy_decode(bytes, &mut text),
        other => panic!("{other}"),
    }
    .unwrap();
    String::from_utf8(text).unwrap()
}

/// The raw body, and its header.
async fn raw(on: &mut H1, request: Request<Body>) -> (http::response::Parts, Vec<u8>) {
    soon("a ready connection", on.ready()).await.unwrap();
    let (head, body) = soon("a response", on.send_request(request)).await.unwrap().into_parts();
    (head, soon("a body", body.collect()).await.unwrap().to_bytes().to_vec())
}

#[test]
fn each_coding_arrives_as_it_was_sent_over_both_protocols() {
    local(async {
        let text: &'static str = Box::leak("some words that repeat, and repeat again\n".repeat(5000).into_boxed_str());
        let backend = Backend::http(move |request| async move {
            let kind = if request.uri().path() == "/image" { "image/png" } else { "text/plain" };
            Response::builder().header("content-type", kind).header("etag", "\"v1\"").body(full(text)).unwrap()
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.services[0].routes[0].compression = rules(10);
        worker.apply(&snapshot).await;
        let mut connection = h1(at).await;
        for coding in ["gzip", "br", "zstd"] {
            let (head, body) = raw(&mut connection, accepting(coding, "/")).await;
            assert_eq!(
                (&head.headers["content-encoding"], &head.headers["etag"]),
                (&coding.parse().unwrap(), &"W/\"v1\"".parse().unwrap())
            );
            assert_eq!(head.headers["vary"], "accept-encoding");
            assert!(
                !head.headers.contains_key("content-length") && body.len() < text.len() / 20,
                "{coding} {}",
                body.len()
            );
            assert_eq!(decode(coding, &body), text);
        }
        let (head, body) = raw(&mut connection, accepting("identity", "/")).await;
        assert_eq!((body.len(), &head.headers["vary"]), (text.len(), &"accept-encoding".parse().unwrap()));
        assert!(!head.headers.contains_key("content-encoding"));
        let (head, body) = raw(&mut connection, accepting("gzip", "/image")).await;
        assert!(!head.headers.contains_key("vary") && body.len() == text.len());
        let mut h2 = h2_on(tokio::net::TcpStream::connect(at).await.unwrap()).await;
        let request = Request::get("http://a/").header("accept-encoding", "br").body(empty()).unwrap();
        soon("a ready connection", h2.ready()).await.unwrap();
        let (_, body) = soon("a response", h2.send_request(request)).await.unwrap().into_parts();
        let body = soon("a body", body.collect()).await.unwrap().to_bytes();
        assert_eq!(decode("br", &body), text);
        let report = worker.report().await;
        let br = report.services[0].compression.iter().find(|row| row.coding == Coding::Br).unwrap();
        assert_eq!((br.responses, br.bytes_in), (2, 2 * text.len() as u64));
        assert!(br.bytes_out < br.bytes_in / 20);
    });
}

#[test]
fn what_a_backend_has_sent_arrives_while_it_pauses() {
    local(async {
        let go = Rc::new(tokio::sync::Notify::new());
        let gate = go.clone();
        let backend = Backend::raw(move |mut stream, _| {
            let gate = gate.clone();
            async move {
                read_head(&mut stream).await;
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(b"7\r\nfirst\n\n\r\n").await.unwrap();
                gate.notified().await;
                stream.write_all(b"8\r\nsecond\n\n\r\n0\r\n\r\n").await.unwrap();
            }
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.services[0].routes[0].compression = rules(10);
        worker.apply(&snapshot).await;
        let mut connection = h1(at).await;
        let mut response = soon("a response", connection.send_request(accepting("gzip", "/"))).await.unwrap();
        assert_eq!(response.headers()["content-encoding"], "gzip");
        // The first event can be read before the second is there.
        let mut got = Vec::new();
        let mut text = [0; 7];
        while flate2::read::GzDecoder::new(&got[..]).read_exact(&mut text).is_err() {
            let frame = soon("a part", response.body_mut().frame()).await.unwrap().unwrap();
            got.extend_from_slice(frame.data_ref().unwrap());
        }
        assert_eq!(&text, b"first\n\n");
        go.notify_one();
        while let Some(frame) = soon("a part", response.body_mut().frame()).await {
            got.extend_from_slice(frame.unwrap().data_ref().unwrap());
        }
        assert_eq!(decode("gzip", &got), "first\n\nsecond\n\n");
    });
}

#[test]
fn a_thread_compresses_so_many_at_once_and_a_body_that_breaks_off_stays_broken() {
    local(async {
        let backend = Backend::raw(|mut stream, n| async move {
            read_head(&mut stream).await;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000\r\n\r\nbegin";
            stream.write_all(head.as_bytes()).await.unwrap();
            if n == 0 {
                // Until the client goes.
                let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0]).await;
            }
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.services[0].routes[0].compression = rules(1);
        worker.apply(&snapshot).await;
        let mut first = h1(at).await;
        let held = soon("a response", first.send_request(accepting("gzip", "/"))).await.unwrap();
        assert!(held.headers().contains_key("content-encoding"));
        let second = soon("a response", h1(at).await.send_request(accepting("gzip", "/"))).await.unwrap();
        assert!(!second.headers().contains_key("content-encoding"));
        assert!(soon("the end", second.into_body().collect()).await.is_err());
        assert_eq!(worker.report().await.services[0].compression_busy, 1);
        drop((held, first));
        until("the first is over", async || worker.report().await.backends[0].active == 0).await;
        let third = soon("a response", h1(at).await.send_request(accepting("gzip", "/"))).await.unwrap();
        assert!(third.headers().contains_key("content-encoding"));
        assert!(soon("the end", third.into_body().collect()).await.is_err(), "half a body is no whole one");
    });
}
