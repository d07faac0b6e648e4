//! Relays between real sockets of the loopback interface.

use super::*;
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

/// Counts nothing.
struct Nobody;

impl Meter for Nobody {
    fn read(&self, _n: usize) {}
    fn wrote(&self, _n: usize) {}
    fn closed(&self) {}
}

type Bare = Metered<TcpStream, Nobody>;

async fn pair() -> (TcpStream, Bare) {
    let socket = TcpSocket::new_v4().unwrap();
    // Not the kernel's choice: where its bound is high, that grows until it holds all that a test sends.
    socket.set_recv_buffer_size(1 << 20).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (far, Metered::new(listener.accept().await.unwrap().0, std::sync::Arc::new(Nobody)))
}

/// A client, a backend, and what is between them.
async fn relay(first: &[u8]) -> (TcpStream, TcpStream, tokio::task::JoinHandle<End>) {
    let ((client, near_client), (backend, near_backend)) = (pair().await, pair().await);
    let relay = Relay::new(near_client, near_backend, first.to_vec(), Rc::default());
    (client, backend, tokio::task::spawn_local(relay))
}

/// Bytes that no shift or repetition leaves as they are.
fn noise(n: usize, mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as u8
    };
    (0..n).map(|_| next()).collect()
}

fn local(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(tokio::runtime::LocalOptions::default()).unwrap();
    let bounded = async { tokio::time::timeout(std::time::Duration::from_secs(30), test).await };
    runtime.block_on(bounded).expect("done in time");
}

#[test]
fn eight_mebibytes_each_way_at_once_arrive_as_they_are() {
    local(async {
        let (client, backend, relay) = relay(b"first ").await;
        let exchange = |stream: TcpStream, bytes: Vec<u8>| async move {
            let (mut read, mut write) = stream.into_split();
            let send = async {
                write.write_all(&bytes).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let (_, read) = tokio::join!(send, read.read_to_end(&mut got));
            read.unwrap();
            got
        };
        let (up, down) = (noise(8 << 20, 1), noise(8 << 20, 2));
        let (at_client, at_backend) = tokio::join!(exchange(client, up.clone()), exchange(backend, down.clone()));
        assert!(at_client == down && at_backend == [&b"first "[..], &up].concat());
        assert_eq!(relay.await.unwrap(), End::Done);
    });
}

#[test]
fn whichever_half_ends_first_the_other_goes_on() {
    local(async {
        for client_first in [true, false] {
            let (client, backend, relay) = relay(b"").await;
            let (mut one, mut other) = if client_first { (client, backend) } else { (backend, client) };
            one.write_all(b"question").await.unwrap();
            one.shutdown().await.unwrap();
            let mut got = Vec::new();
            other.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, b"question");
            assert!(!relay.is_finished());
            let long = noise(1 << 20, 3);
            let (sent, got) = tokio::join!(
                async {
                    other.write_all(&long).await?;
                    other.shutdown().await
                },
                async {
                    let mut got = Vec::new();
                    one.read_to_end(&mut got).await.map(|_| got)
                }
            );
            sent.unwrap();
            assert!(got.unwrap() == long);
            assert_eq!(relay.await.unwrap(), End::Done);
        }
    });
}

#[test]
fn a_slow_reader_slows_the_writer_and_loses_nothing() {
    local(async {
        let (mut client, mut backend, relay) = relay(b"").await;
        let bytes = noise(24 << 20, 4);
        let mut sent = 0;
        // Until nothing is taken any more: sockets and pipe are full, and the relay holds no more than that.
        while sent < bytes.len()
            && let Ok(n) =
                tokio::time::timeout(std::time::Duration::from_millis(200), client.write(&bytes[sent..])).await
        {
            sent += n.unwrap();
        }
        assert!(sent < bytes.len(), "all was taken");
        let rest = async {
            client.write_all(&bytes[sent..]).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let mut got = Vec::with_capacity(bytes.len());
        let slowly = async {
            let mut few = [0; 10_007];
            while let n @ 1.. = backend.read(&mut few).await.unwrap() {
                got.extend_from_slice(&few[..n]);
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(rest, slowly);
        assert!(got == bytes);
        drop(backend);
        assert_eq!(relay.await.unwrap(), End::Done);
    });
}

#[test]
fn a_backend_that_resets_ends_the_connection_after_its_last_words() {
    local(async {
        let (mut client, mut backend, relay) = relay(b"").await;
        let words = noise(200_000, 5);
        client.write_all(b"x").await.unwrap();
        backend.readable().await.unwrap();
        backend.write_all(&words).await.unwrap();
        let mut got = vec![0; words.len()];
        client.read_exact(&mut got).await.unwrap();
        assert!(got == words);
        // Closed with a byte unread: a reset.
        drop(backend);
        assert_eq!(relay.await.unwrap(), End::BackendBroke);
        match client.read(&mut got).await {
            Ok(0) => {}
            Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_client_that_resets_is_no_failure_of_the_backend() {
    local(async {
        let (client, mut backend, relay) = relay(b"").await;
        backend.write_all(b"x").await.unwrap();
        client.readable().await.unwrap();
        drop(client);
        assert_eq!(relay.await.unwrap(), End::Done);
        let mut got = Vec::new();
        let _ = backend.read_to_end(&mut got).await;
        assert_eq!(got, b"");
    });
}

#[test]
fn an_idle_relay_holds_neither_buffer_nor_pipe() {
    local(async {
        let ((mut client, near_client), (mut backend, near_backend)) = (pair().await, pair().await);
        let store = Rc::new(Store::default());
        let mut relay = Relay::new(near_client, near_backend, Vec::new(), store.clone());
        let bytes = noise(300_000, 6);
        let pass = async {
            client.write_all(&bytes).await.unwrap();
            let mut got = vec![0; bytes.len()];
            backend.read_exact(&mut got).await.unwrap();
            assert!(got == bytes);
            tokio::task::yield_now().await;
        };
        tokio::select! {
            biased;
            end = &mut relay => panic!("{end:?}"),
            () = pass => {}
        }
        assert!(relay.up.buffer.is_none() && relay.up.pipe.is_none() && relay.down.buffer.is_none());
        assert!(store.pipe().is_some_and(|p| p.held() == 0));
    });
}

/// CPU time of the relay's thread for a MiB, µs. `write`: bytes that the client sends at once; `pause`: it waits for
/// the backend to have them before it sends more.
fn cpu_of(pipes: bool, write: usize, pause: bool) -> f64 {
    use rustix::time::{ClockId, clock_gettime};
    use std::io::{Read, Write};
    let total: usize = if pause { 16 << 20 } else { 256 << 20 };
    let listen = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (front, back) = (listen(), listen());
    let (at, to) = (front.local_addr().unwrap(), back.local_addr().unwrap());
    let relay = std::thread::spawn(move || {
        let spent = std::cell::Cell::new(0.0);
        local(async {
            let connect = async |listener: std::net::TcpListener| {
                listener.set_nonblocking(true).unwrap();
                let accepted = TcpListener::from_std(listener).unwrap().accept().await.unwrap().0;
                accepted.set_nodelay(true).unwrap();
                Metered::new(accepted, std::sync::Arc::new(Nobody))
            };
            let client = connect(front).await;
            let backend = Metered::new(TcpStream::connect(to).await.unwrap(), std::sync::Arc::new(Nobody));
            backend.get_ref().set_nodelay(true).unwrap();
            let store = if pipes { Store::default() } else { Store::without_pipes() };
            let now = || {
                let t = clock_gettime(ClockId::ThreadCPUTime);
                t.tv_sec as f64 * 1e6 + t.tv_nsec as f64 / 1e3
            };
            let began = now();
            Relay::new(client, backend, Vec::new(), Rc::new(store)).await;
            spent.set(now() - began);
        });
        spent.get()
    });
    let (ack, acked) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut stream = back.accept().unwrap().0;
        let mut buffer = vec![0; 256 << 10];
        while let n @ 1.. = stream.read(&mut buffer).unwrap() {
            let _ = ack.send(n);
        }
    });
    let mut stream = std::net::TcpStream::connect(at).unwrap();
    stream.set_nodelay(true).unwrap();
    let bytes = vec![b'x'; write];
    for _ in 0..total / write {
        stream.write_all(&bytes).unwrap();
        let mut left = if pause { write } else { 0 };
        while left > 0 {
            left -= acked.recv().unwrap();
        }
    }
    drop(stream);
    reader.join().unwrap();
    relay.join().unwrap() / (total >> 20) as f64
}

#[test]
#[ignore = "a measurement: cargo test --release -p tls-worker --lib what_splice_saves -- --ignored --nocapture"]
fn what_splice_saves() {
    for (kind, kib) in [("stream", 256), ("stream", 16), ("messages", 256), ("messages", 64), ("messages", 16)] {
        let least = |pipes| (0..4).map(|_| cpu_of(pipes, kib << 10, kind == "messages")).fold(f64::MAX, f64::min);
        println!("{kind} of {kib} KiB: copied {:.0} µs/MiB, spliced {:.0} µs/MiB", least(false), least(true));
    }
}
