//! Forged SYNs, as many as two CPUs can make beside everything else, and junk do not keep people out.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lb_tests::client::Target;
use lb_tests::edge::Edge;
use lb_tests::flood::{self, Generator, Traffic};
use lb_tests::forwarding::verdicts;
use lb_tests::harness::{lab, one_by_one};
use lb_tests::lab::{CLIENT4, CLIENT6, Lab, VIP4, VIP6};

/// Handshakes of people, and how long after one the next begins.
const HANDSHAKES: u32 = 500;
const PACE: Duration = Duration::from_millis(6);
/// A person gives up.
const GIVES_UP: Duration = Duration::from_secs(5);
/// A flood ends by itself.
const LONGEST: Duration = Duration::from_secs(12);
/// SYNs, and junk after them, between two looks at the clock.
const SYNS: u32 = 50_000;
const JUNK: u32 = 5_000;
/// CPUs of the generators; the edge's work on their frames is done there too, and people's handshakes beside it.
const CPUS: [usize; 2] = [0, 1];
/// A cookie is good for the listener that made it. With `rss` that is the one of the CPU that packets come in by: the hash
/// of a NIC keeps a flow on one, a cable of veth does not.
const STEERING: &str = "cpus = [0, 1]\nsteering = \"hash\"";
/// Below this it is no flood, and proves nothing.
const LEAST_RATE: f64 = 100_000.0;

fn main() -> ExitCode {
    // One flood at a time has the CPU for itself.
    one_by_one(vec![
        lab("a_handshake_by_cookie_succeeds_where_there_is_no_flood", quiet),
        lab("ipv4_handshakes_succeed_in_a_flood_with_cookies", || with_cookies(VIP4.into(), "always")),
        lab("ipv6_handshakes_succeed_in_a_flood_that_switches_cookies_on", || with_cookies(VIP6.into(), "auto")),
        lab("the_same_flood_without_the_shield_for_comparison", without),
    ])
}

/// What came of a flood.
#[derive(Debug)]
struct Outcome {
    /// Frames a second that were offered.
    rate: f64,
    /// Of [`HANDSHAKES`].
    succeeded: u32,
    took: Duration,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rate, succeeded, took } = self;
        write!(
            f,
            "{succeeded} of {HANDSHAKES} handshakes in {took:.1?} under {:.2} million frames a second",
            rate / 1e6
        )
    }
}

fn quiet() -> Result<()> {
    let lab = flooded_lab()?;
    let edge = Edge::start(&lab, &lab.site(STEERING, &shield("always")))?;
    for vip in [IpAddr::from(VIP4), VIP6.into()] {
        let target = lab.target(vip, 443)?;
        lab.client.run_async(|| async { target.tls(&["http/1.1"]).await })?;
    }
    let cookies = verdicts(&edge, "web", &["syn_cookie"])?;
    ensure!(cookies == 2.0, "{cookies} cookies for two handshakes");
    Ok(())
}

fn with_cookies(vip: IpAddr, how: &str) -> Result<()> {
    let lab = flooded_lab()?;
    let edge = Edge::start(&lab, &lab.site(STEERING, &shield(how)))?;
    let outcome = flood(&lab, vip)?;
    println!("{vip}, syn_cookies = {how:?}: {outcome}");
    ensure!(outcome.rate >= LEAST_RATE, "{outcome}");
    ensure!(outcome.succeeded * 100 >= HANDSHAKES * 99, "{outcome}");
    let cookies = verdicts(&edge, "web", &["syn_cookie"])?;
    ensure!(cookies >= f64::from(SYNS) / 2.0, "{cookies} cookies");
    let malformed = ["bad_tcp", "bad_tcp_flags", "bad_ip_checksum", "truncated_l4"];
    ensure!(verdicts(&edge, "", &malformed)? > 0.0, "no junk was seen as such");
    Ok(())
}

fn without() -> Result<()> {
    let lab = flooded_lab()?;
    let _edge = Edge::start(&lab, &lab.site(STEERING, &shield("never")))?;
    let outcome = flood(&lab, VIP4.into())?;
    println!("{VIP4}, syn_cookies = \"never\": {outcome}");
    // Only shown: what the kernel makes of a flood is not our promise.
    ensure!(outcome.rate > 0.0, "{outcome}");
    Ok(())
}

fn shield(how: &str) -> String {
    format!("[service.web.shield]\nsyn_cookies = \"{how}\"\n")
}

fn flooded_lab() -> Result<Lab> {
    let lab = Lab::forwarding(1)?;
    // Where forged sources would be.
    lab.edge.ip(&format!("route add default via {CLIENT4}"))?;
    lab.edge.ip(&format!("-6 route add default via {CLIENT6}"))?;
    Ok(lab)
}

/// Flood `vip` for as long as people shake hands.
fn flood(lab: &Lab, vip: IpAddr) -> Result<Outcome> {
    let from: IpAddr = if vip.is_ipv4() { [10, 64, 0, 0].into() } else { "fd64::".parse()? };
    let syns = Traffic::syns(flood::mac(&lab.edge, "wan")?, from, SocketAddr::new(vip, 443));
    let target = lab.target(vip, 443)?;
    let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let offer = |cpu| -> Result<f64> {
        let mut generator = Generator::open(&lab.client, "eth0")?;
        let start = Instant::now();
        let mut frames = 0_u64;
        while !done.load(Ordering::Relaxed) && start.elapsed() < LONGEST {
            generator.aim(&syns)?;
            generator.send(SYNS, Some(cpu))?;
            generator.aim(&Traffic { spoiled: true, ..syns })?;
            generator.send(JUNK, Some(cpu))?;
            frames += u64::from(SYNS + JUNK);
            begun.store(true, Ordering::Relaxed);
        }
        begun.store(true, Ordering::Relaxed);
        Ok(frames as f64 / start.elapsed().as_secs_f64())
    };
    std::thread::scope(|scope| {
        let flooding = CPUS.map(|cpu| {
            scope.spawn({
                let offer = &offer;
                move || offer(cpu)
            })
        });
        while !begun.load(Ordering::Relaxed) && !flooding.iter().all(|one| one.is_finished()) {
            std::thread::yield_now();
        }
        let start = Instant::now();
        let succeeded = lab.client.run_async(|| handshakes(&target));
        let took = start.elapsed();
        done.store(true, Ordering::Relaxed);
        let mut rate = 0.0;
        for one in flooding {
            let offered: Result<f64> = one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            rate += offered?;
        }
        Ok(Outcome { rate, succeeded: succeeded?, took })
    })
}

/// How many of [`HANDSHAKES`] got through before the person gave up, and before the flood's end.
async fn handshakes(target: &Target) -> Result<u32> {
    let start = tokio::time::Instant::now();
    let end = start + LONGEST - Duration::from_secs(1);
    let one = async |number: u32| {
        tokio::time::sleep_until(start + PACE * number).await;
        let handshake = tokio::time::timeout(GIVES_UP, target.tls(&["http/1.1"]));
        matches!(tokio::time::timeout_at(end, handshake).await, Ok(Ok(Ok(_))))
    };
    let all = futures_util::future::join_all((0..HANDSHAKES).map(one)).await;
    Ok(all.into_iter().map(u32::from).sum())
}
