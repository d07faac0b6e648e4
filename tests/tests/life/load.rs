//! The load: rounds of wrk and h2load, one after the other until they are told to stop, and WebSockets that talk all the
//! time. What each of them lost is counted.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt};
use lb_tests::client::{Target, within};
use lb_tests::netns::runtime;
use lb_tests::programs::run_for;
use lb_tests::wait::{PATIENCE, wait_for};
use tokio_tungstenite::tungstenite::Message;

/// WebSockets at once.
pub(crate) const SOCKETS: u64 = 100;
/// Seconds of a round.
const ROUND: &str = "1";

/// What clients saw.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Answered with 2xx.
    pub(crate) good: u64,
    /// Connections that could not be made.
    pub(crate) refused: u64,
    /// Requests that got no answer: their connection was reset or closed, or time ran out.
    pub(crate) lost: u64,
    /// Answered with anything else.
    pub(crate) bad: u64,
}

/// The load that runs, to be looked at and stopped.
#[derive(Default)]
pub(crate) struct Load {
    stop: AtomicBool,
    wrk: AtomicU64,
    h2: AtomicU64,
    /// WebSockets that are open.
    pub(crate) open: AtomicU64,
    /// Messages that came back.
    pub(crate) messages: AtomicU64,
    /// WebSockets that ended before they were told to.
    pub(crate) broken: AtomicU64,
    /// Whether those that end are opened again.
    pub(crate) again: AtomicBool,
}

/// All of it, while `work` is done.
pub(crate) struct Outcome {
    pub(crate) wrk: Seen,
    pub(crate) h2load: Seen,
}

/// Do the work under load. `secure` is for h2load and, with `sockets`, for WebSockets.
pub(crate) fn under_load(
    clear: SocketAddr,
    secure: &Target,
    sockets: u64,
    work: impl FnOnce(&Load) -> Result<()>,
) -> Result<Outcome> {
    let load = Load { again: AtomicBool::new(true), ..Load::default() };
    std::thread::scope(|scope| {
        let wrk = scope.spawn(|| rounds(&load.stop, &load.wrk, || wrk(clear)));
        let h2load = scope.spawn(|| rounds(&load.stop, &load.h2, || h2load(secure.address)));
        let talk = scope.spawn(|| runtime()?.block_on(talk(secure, sockets, &load)));
        let done = begun(&load, sockets).and_then(|()| work(&load));
        load.stop.store(true, Ordering::Relaxed);
        let (wrk, h2load, talked) = (joined(wrk), joined(h2load), joined(talk));
        done?;
        talked?;
        Ok(Outcome { wrk: wrk?, h2load: h2load? })
    })
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// All kinds of load flow.
fn begun(load: &Load, sockets: u64) -> Result<()> {
    wait_for("the load to begin", PATIENCE, || {
        let open = load.open.load(Ordering::Relaxed);
        let rounds = load.wrk.load(Ordering::Relaxed).min(load.h2.load(Ordering::Relaxed));
        (open == sockets && rounds >= 1).then_some(())
    })
}

impl Load {
    /// Wait until every WebSocket has had some answers since now.
    pub(crate) fn breathes(&self) -> Result<()> {
        let before = self.messages.load(Ordering::Relaxed);
        wait_for("WebSockets to talk on", PATIENCE, || {
            (self.messages.load(Ordering::Relaxed) >= before + 4 * SOCKETS).then_some(())
        })
    }

    /// Wait until both programs have finished a round that began after this, and messages have come back.
    pub(crate) fn flows_on(&self) -> Result<()> {
        let before = [&self.wrk, &self.h2, &self.messages].map(|count| count.load(Ordering::Relaxed));
        wait_for("the load to flow on", PATIENCE, || {
            let now = [&self.wrk, &self.h2, &self.messages].map(|count| count.load(Ordering::Relaxed));
            let sockets = self.open.load(Ordering::Relaxed) == 0 || now[2] > before[2];
            (now[0] >= before[0] + 2 && now[1] >= before[1] + 2 && sockets).then_some(())
        })
    }
}

fn rounds(stop: &AtomicBool, count: &AtomicU64, round: impl Fn() -> Result<Seen>) -> Result<Seen> {
    let mut all = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let one = round()?;
        all.good += one.good;
        all.refused += one.refused;
        all.lost += one.lost;
        all.bad += one.bad;
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(all)
}

fn wrk(at: SocketAddr) -> Result<Seen> {
    let said = run_for(30, "wrk", &["-t", "1", "-c", "6", "-d", ROUND, &format!("http://{at}/")], "")?;
    let line = |has: &str| said.text.lines().find(|line| line.contains(has));
    let requests = line(" requests in ").and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let errors = line("Socket errors:").unwrap_or_default();
    let [refused, read, write, late] = ["connect ", "read ", "write ", "timeout "].map(|word| number(errors, word));
    let bad = line("Non-2xx or 3xx responses:").map_or(0, |line| number(line, "responses: "));
    let requests = requests.with_context(|| said.text.clone())?;
    Ok(Seen { good: requests - bad, refused, lost: read + write + late, bad })
}

fn h2load(at: SocketAddr) -> Result<Seen> {
    let said = run_for(30, "h2load", &["-D", ROUND, "-c", "4", "-m", "4", &format!("https://{at}/")], "")?;
    let line = said.text.lines().find(|line| line.starts_with("requests: ")).with_context(|| said.text.clone())?;
    let before = |word: &str| {
        let front = line.split_once(word).map_or("", |(front, _)| front).trim_end();
        front.rsplit([' ', ',']).next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
    };
    let codes = said.text.lines().find(|line| line.starts_with("status codes:")).unwrap_or_default();
    let good = number(codes, "status codes: ");
    let (failed, errored) = (before(" failed"), before(" errored"));
    Ok(Seen { good, refused: 0, lost: failed.max(errored), bad: before(" succeeded").saturating_sub(good) })
}

/// The number after a word.
fn number(text: &str, word: &str) -> u64 {
    let digits = text.split_once(word).map_or("", |(_, rest)| rest);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or(0)
}

async fn talk(target: &Target, sockets: u64, load: &Load) -> Result<()> {
    let mut all = futures_util::stream::FuturesUnordered::new();
    (0..sockets).for_each(|_| all.push(one(target, load)));
    while let Some(ended) = all.next().await {
        ended?;
    }
    Ok(())
}

async fn one(target: &Target, load: &Load) -> Result<()> {
    while !load.stop.load(Ordering::Relaxed) {
        let opened = within("a WebSocket", target.websocket_open("/ws")).await;
        let Ok(mut socket) = opened else {
            ensure!(load.again.load(Ordering::Relaxed), "a WebSocket could not be opened: {:?}", opened.err());
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        load.open.fetch_add(1, Ordering::Relaxed);
        let lived = loop {
            if load.stop.load(Ordering::Relaxed) {
                break Ok(());
            }
            let talked = within("an echo", async {
                socket.send(Message::text("still there?")).await?;
                let back = socket.next().await.context("it ended")??;
                ensure!(back.to_text()? == "still there?", "{back:?}");
                Ok(())
            });
            match talked.await {
                Ok(()) => load.messages.fetch_add(1, Ordering::Relaxed),
                Err(error) => break Err(error),
            };
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        load.open.fetch_sub(1, Ordering::Relaxed);
        if lived.is_err() {
            load.broken.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
