//! A server that answers each line (TCP) or datagram (UDP) with its name and whom it sees, and connections that ask it
//! again and again: so it is known where each flow ends, for as long as it lives.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::client::within;
use crate::netns::{Namespace, runtime};

/// A datagram without an answer is sent again after so long.
const AGAIN: Duration = Duration::from_millis(300);

/// A server on a thread of its own; it and its connections end when it is dropped.
pub struct Lines {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The server's name.
    pub name: String,
    /// The client as the server sees it.
    pub peer: SocketAddr,
}

impl Lines {
    /// Answer in `space` on all of these, TCP and UDP.
    pub fn start(space: &Namespace, name: &str, addresses: &[SocketAddr]) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (bound, ready) = std::sync::mpsc::channel();
        let (name, addresses) = (name.to_string(), addresses.to_vec());
        let thread = space.spawn(move || {
            runtime()?.block_on(async {
                for address in addresses {
                    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
                    let socket = UdpSocket::bind(address).await.with_context(|| format!("bind {address}"))?;
                    tokio::spawn(accept(listener, name.clone()));
                    tokio::spawn(echo(socket, name.clone()));
                }
                bound.send(()).ok();
                stopped.await.ok();
                Ok(())
            })
        })?;
        match ready.recv_timeout(Duration::from_secs(10)) {
            Ok(()) => Ok(Self { stop: Some(stop), thread: Some(thread) }),
            Err(_) => match thread.join() {
                Ok(Err(error)) => Err(error),
                _ => anyhow::bail!("a server did not start"),
            },
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, name: String) {
    while let Ok((stream, peer)) = listener.accept().await {
        let answer = format!("{name} {peer}\n");
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|bytes| bytes > 0) {
                line.clear();
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    break;
                }
            }
        });
    }
}

async fn echo(socket: UdpSocket, name: String) {
    let mut datagram = [0; 2048];
    loop {
        // An ICMP error of an answer before is told here; the next datagram is none the worse for it.
        let Ok((_, peer)) = socket.recv_from(&mut datagram).await else { continue };
        let _ = socket.send_to(format!("{name} {peer}\n").as_bytes(), peer).await;
    }
}

/// Connections that stay open. One that broke is none any more.
pub struct Connections {
    runtime: Runtime,
    all: Vec<Option<BufReader<TcpStream>>>,
}

impl Connections {
    /// Open so many from `space`, ten at a time.
    pub fn open(space: &Namespace, to: SocketAddr, count: usize) -> Result<Self> {
        let runtime = runtime()?;
        let connect = async {
            let mut all = Vec::with_capacity(count);
            while all.len() < count {
                let some = (0..10.min(count - all.len())).map(|_| {
                    within("connection", async {
                        TcpStream::connect(to).await.with_context(|| format!("connect to {to}"))
                    })
                });
                for stream in join_all(some).await {
                    all.push(Some(BufReader::new(stream?)));
                }
            }
            Ok(all)
        };
        let all = space.run(|| runtime.block_on(connect))?;
        Ok(Self { runtime, all })
    }

    /// Ask on every one; who answered within `patience`. Where nobody did, the connection counts as broken.
    pub fn ask(&mut self, patience: Duration) -> Vec<Option<Answer>> {
        let one = |slot: &mut Option<BufReader<TcpStream>>| {
            let stream = slot.take();
            async move {
                let mut stream = stream?;
                let answer = tokio::time::timeout(patience, ask(&mut stream)).await.ok()?.ok()?;
                Some((stream, answer))
            }
        };
        let asked: Vec<_> = self.all.iter_mut().map(one).collect();
        let answers = self.runtime.block_on(join_all(asked));
        let (streams, answers) = answers.into_iter().map(Option::unzip).unzip();
        self.all = streams;
        answers
    }
}

async fn ask(stream: &mut BufReader<TcpStream>) -> Result<Answer> {
    stream.write_all(b"who\n").await?;
    let mut line = String::new();
    ensure!(stream.read_line(&mut line).await? > 0, "the connection ended");
    parse(&line)
}

/// A datagram from `space`, and its answer. Like a resolver it asks again: the first is lost where a neighbour has to be
/// asked for on the way.
pub fn datagram(space: &Namespace, to: SocketAddr) -> Result<Answer> {
    space.run_async(|| async {
        let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).await?;
        // Connected: an answer from another address than was asked is none.
        socket.connect(to).await?;
        let mut answer = [0; 2048];
        within("datagram", async {
            loop {
                socket.send(b"who\n").await?;
                if let Ok(bytes) = tokio::time::timeout(AGAIN, socket.recv(&mut answer)).await {
                    return parse(std::str::from_utf8(&answer[..bytes?])?);
                }
            }
        })
        .await
    })
}

fn parse(line: &str) -> Result<Answer> {
    let (name, peer) = line.trim().split_once(' ').with_context(|| format!("{line:?} names nobody"))?;
    Ok(Answer { name: name.into(), peer: peer.parse().with_context(|| format!("{line:?} names no peer"))? })
}
