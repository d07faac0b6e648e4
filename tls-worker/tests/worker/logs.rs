//! Access logs: what a line says, and that nobody waits for it.

use crate::local;
use crate::support::backend::{Backend, full, read_head};
use crate::support::client::*;
use crate::support::process::Worker;
use crate::support::{snap, soon, until};
use http::{Request, Response};
use serde_json::{Value, json};
use std::io::Read;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tls_worker::api::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const FIELDS: [(&str, &str); 12] = [
    ("method", "${request.method}"),
    ("uri", "${request.uri}"),
    ("host", "${request.host}"),
    ("status", "${response.status}"),
    ("bytes", "${response.bytes}"),
    ("end", "${response.end}"),
    ("agent", "${header('user-agent')}"),
    ("type", "${response_header('content-type')}"),
    ("route", "${route}"),
    ("backend", "${backend}"),
    ("seconds", "${response.seconds}"),
    ("time", "${time}"),
];

fn json_log() -> AccessLog {
    let fields = FIELDS.iter().map(|(key, text)| (key.to_string(), text.to_string())).collect();
    AccessLog { name: "main".into(), format: LogFormat::Json(fields), sample: 1, errors_always: false, buffer: 1 << 20 }
}

fn logged(at: SocketAddr, backend: SocketAddr, log: AccessLog) -> Snapshot {
    let mut snapshot = snap::http(at, &[backend]);
    snapshot.access_logs = vec![log];
    snapshot.services[0].access_log = Some(0);
    snapshot
}

/// Lines that come out of a pipe.
fn lines(mut pipe: std::fs::File) -> Receiver<String> {
    let (tx, rx) = channel();
    std::thread::spawn(move || {
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        while let Ok(n @ 1..) = pipe.read(&mut chunk) {
            bytes.extend_from_slice(&chunk[..n]);
            while let Ok(Some((log, line, rest))) = frames::read(&bytes) {
                assert_eq!(log, "main");
                let (line, left) = (String::from_utf8(line.to_vec()).unwrap(), rest.len());
                bytes.drain(..bytes.len() - left);
                let _ = tx.send(line);
            }
        }
    });
    rx
}

async fn next(lines: &Receiver<String>) -> String {
    let mut line = None;
    until("a line", async || {
        line = lines.try_recv().ok();
        line.is_some()
    })
    .await;
    line.unwrap()
}

async fn object(lines: &Receiver<String>) -> Value {
    serde_json::from_str(&next(lines).await).unwrap()
}

#[test]
fn a_line_tells_what_was_asked_and_what_came_of_it() {
    local(async {
        let backend = Backend::http(|_: Request<hyper::body::Incoming>| async {
            let mut response = Response::new(full("hello"));
            response.headers_mut().insert("content-type", "text/x".parse().unwrap());
            response
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = logged(at, backend.address, json_log());
        snapshot.services[0].routes[0].hosts = vec!["a.test".into()];
        worker.apply(&snapshot).await;
        let lines = lines(worker.log_pipes(1).await.remove(0));
        let mut client = h1(at).await;
        let mut request = get("A.test:80", "/a?b=%22");
        request.headers_mut().insert("user-agent", "x \" 1.0".parse().unwrap());
        ask(&mut client, request).await;
        let mut line = object(&lines).await;
        let (seconds, time) = (line["seconds"].take(), line["time"].take());
        assert!(seconds.as_f64().is_some_and(|s| s > 0.0 && s < 20.0), "{seconds}");
        assert!(time.as_str().is_some_and(|t| t.len() == 24 && t.ends_with('Z')), "{time}");
        let backend = backend.address.to_string();
        assert_eq!(
            line,
            json!({
                "method": "GET", "uri": "/a?b=%22", "host": "a.test", "status": 200, "bytes": 5, "end": "complete",
                "agent": "x \" 1.0", "type": "text/x", "route": "all", "backend": backend, "seconds": null, "time": null,
            })
        );
        // HEAD, and what the edge answers itself.
        let head = Request::head("/h").header("host", "a.test").body(empty()).unwrap();
        ask(&mut client, head).await;
        let line = object(&lines).await;
        assert_eq!((&line["method"], &line["bytes"], &line["end"]), (&json!("HEAD"), &json!(0), &json!("complete")));
        assert_eq!(ask(&mut client, get("b.test", "/")).await.status(), 404);
        let line = object(&lines).await;
        let seen = (&line["status"], &line["host"], &line["route"], &line["backend"]);
        assert_eq!(seen, (&json!(404), &json!("b.test"), &Value::Null, &Value::Null));
        // What could not even be read.
        bare(at, "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\nConnection: close\r\n\r\n").await;
        let line = object(&lines).await;
        assert_eq!((&line["status"], &line["backend"]), (&json!(400), &Value::Null));
        assert_eq!((&line["method"], &line["uri"], &line["host"]), (&json!("-"), &json!("*"), &json!("")));
        let report = worker.report().await;
        assert_eq!((report.access_logs[0].lines, report.access_logs[0].dropped), (4, 0));
    });
}

#[test]
fn a_client_that_leaves_is_told_of_as_it_left() {
    local(async {
        let backend = Backend::raw(|mut stream, _| async move {
            read_head(&mut stream).await;
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789";
            stream.write_all(head.as_bytes()).await.unwrap();
            let _ = stream.read_u8().await;
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&logged(at, backend.address, json_log())).await;
        let lines = lines(worker.log_pipes(1).await.remove(0));
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"0123456789") {
            soon("the first bytes", stream.read_buf(&mut seen)).await.unwrap();
        }
        drop(stream);
        let line = object(&lines).await;
        assert_eq!((&line["status"], &line["bytes"], &line["end"]), (&json!(200), &json!(10), &json!("aborted")));
    });
}

#[test]
fn one_in_so_many_is_written_and_every_error() {
    local(async {
        let good = Backend::says("x").await;
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let log = AccessLog { sample: 5, errors_always: true, ..json_log() };
        let mut snapshot = logged(at, good.address, log);
        snapshot.pools.push(snap::pool("gone", &[gone]));
        snapshot.services[0].routes.insert(0, snap::route("gone", &[], Some("/gone"), 1));
        worker.apply(&snapshot).await;
        let lines = lines(worker.log_pipes(1).await.remove(0));
        let mut client = h1(at).await;
        for _ in 0..10 {
            assert_eq!(ask(&mut client, get("a.test", "/")).await.status(), 200);
        }
        for _ in 0..3 {
            assert_eq!(ask(&mut client, get("a.test", "/gone")).await.status(), 502);
        }
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(object(&lines).await["status"].as_u64().unwrap());
        }
        assert_eq!(seen, [200, 200, 502, 502, 502]);
        assert_eq!(worker.report().await.access_logs[0].lines, 5);
    });
}

#[test]
fn a_reader_that_is_stuck_slows_no_request_and_what_is_dropped_is_counted() {
    local(async {
        let backend = Backend::says("x").await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let log = AccessLog { buffer: 16 << 10, ..json_log() };
        worker.apply(&logged(at, backend.address, log)).await;
        let pipe = worker.log_pipes(1).await.remove(0);
        let mut client = h1(at).await;
        let began = Instant::now();
        let dropped = async |worker: &mut Worker| worker.report().await.access_logs[0].dropped;
        let mut asked = 0;
        while dropped(&mut worker).await < 100 {
            for _ in 0..100 {
                ask(&mut client, get("a.test", "/")).await;
            }
            asked += 100;
            assert!(asked < 20_000 && began.elapsed() < Duration::from_secs(60), "{asked}");
        }
        let report = worker.report().await;
        let log = &report.access_logs[0];
        assert_eq!(log.lines + log.dropped, asked);
        // When it reads again, every line that was taken is there, whole.
        let lines = lines(pipe);
        for _ in 0..log.lines {
            object(&lines).await;
        }
        ask(&mut client, get("a.test", "/after")).await;
        assert_eq!(object(&lines).await["uri"], "/after");
    });
}

#[test]
fn a_drain_leaves_no_line_behind() {
    local(async {
        let backend = Backend::says("x").await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&logged(at, backend.address, json_log())).await;
        let lines = lines(worker.log_pipes(1).await.remove(0));
        let mut client = h1(at).await;
        for _ in 0..20 {
            ask(&mut client, get("a.test", "/")).await;
        }
        worker.send(Command::Drain { grace_ms: 5_000 }).await;
        drop(client);
        assert!(worker.ended().await.success());
        for _ in 0..20 {
            next(&lines).await;
        }
    });
}
