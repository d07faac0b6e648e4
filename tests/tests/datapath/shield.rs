//! The shield on a real interface: SYN cookies that the kernel takes, drops told live, a million prefixes.

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_tests::privilege;
use lb_user::datapath::{
    Datapath as _, DatapathError, Desired, KernelDatapath, Limits, Listener, PrefixRule, Steering, SynCookies,
};
use libtest_mimic::{Failed, Trial};

use crate::edge::*;
use crate::lab::*;

/// So long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(15);
const MANY: u32 = 1_000_000;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("SYN cookies, always: the kernel takes what XDP gave, both families", || in_lab(always)),
        Trial::test("SYN cookies, by rate: on in a flood, off when it is over", || in_lab(by_rate)),
        Trial::test("a denied packet is told live", || in_lab(told)),
        Trial::test("a million prefixes come and go; more than there is room for are refused", || in_lab(many)),
        Trial::test("a prefix that has run out is removed", || in_lab(outdated)),
    ]
}

fn in_lab(test: impl AsyncFnOnce(&Lab) -> Result<(), Failed> + Send) -> Result<(), Failed> {
    let lab = Lab::new()?;
    let _taking = lab.taking_xdp()?;
    lab.in_edge(|| block_on(test(&lab)))
}

fn with_cookies(syn_cookies: SynCookies) -> Desired {
    let limits = Limits {
        source_packets: None,
        source_connections: None,
        packets: None,
        connections: None,
        source_v4: 32,
        source_v6: 128,
        syn_cookies,
    };
    Desired { limits: [(1, limits)].into(), ..desired() }
}

/// Connect from the client, send a word each way, and say whether a cookie was taken for it.
fn exchange(lab: &Lab, listeners: &[Listener], address: &str) -> Result<bool, Failed> {
    let before = cookies_taken()?;
    let mut client = lab.connect(at(address, 443), privilege::cpus()[0])?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.write_all(b"from the client")?;
    let arrival = accept(listeners)?;
    assert_eq!((arrival.client, arrival.destination), (client.local_addr()?, at(address, 443)));
    let mut peer = arrival.into_stream();
    peer.set_read_timeout(Some(PATIENCE))?;
    let mut received = [0; 15];
    peer.read_exact(&mut received)?;
    assert_eq!(&received, b"from the client");
    // More than a window without scaling.
    let sent = vec![7; 200_000];
    let expected = sent.clone();
    let writer = std::thread::spawn(move || peer.write_all(&sent));
    let mut received = vec![0; expected.len()];
    client.read_exact(&mut received)?;
    writer.join().map_err(|_| "the writer panicked")??;
    assert!(received == expected);
    Ok(cookies_taken()? > before)
}

/// `SyncookiesRecv` of this thread's namespace.
fn cookies_taken() -> Result<u64, Failed> {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat")?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().ok_or("no names")?, lines.next().ok_or("no values")?);
    let mut columns = names.split_whitespace().zip(values.split_whitespace());
    let (_, value) = columns.find(|(name, _)| *name == "SyncookiesRecv").ok_or("no SyncookiesRecv")?;
    Ok(value.parse()?)
}

fn setting() -> Result<String, Failed> {
    Ok(std::fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies")?.trim().to_owned())
}

async fn always(lab: &Lab) -> Result<(), Failed> {
    let before = setting()?;
    let mut datapath = KernelDatapath::open(options("cookies", Steering::Hash), None).await?;
    let listeners = datapath.apply(&with_cookies(SynCookies::Always)).await?;
    assert_eq!(setting()?, "2");
    for address in [VIP4, VIP6] {
        for _ in 0..5 {
            assert!(exchange(lab, &listeners, address)?, "no cookie was taken for {address}");
        }
    }
    let counted = packets(&datapath)?;
    assert_eq!(counted.get(&(1, "syn_cookie")), Some(&10), "{counted:?}");
    assert_eq!(datapath.counters()?.shield.flooded, [1]);
    datapath.tick().await;
    assert_eq!(setting()?, "2");
    datapath.apply(&with_cookies(SynCookies::Never)).await?;
    datapath.tick().await;
    assert_eq!(setting()?, before);
    assert!(!exchange(lab, &listeners, VIP4)?);
    datapath.apply(&with_cookies(SynCookies::Always)).await?;
    datapath.close().await?;
    assert_eq!(setting()?, before);
    Ok(())
}

async fn by_rate(lab: &Lab) -> Result<(), Failed> {
    let before = setting()?;
    let mut datapath = KernelDatapath::open(options("flood", Steering::Hash), None).await?;
    let cookies = SynCookies::Auto { on: 5, off: 5, hold: Duration::from_secs(1) };
    let listeners = datapath.apply(&with_cookies(cookies)).await?;
    let begin = Instant::now();
    while datapath.counters()?.shield.flooded.is_empty() {
        exchange(lab, &listeners, VIP4)?;
        if begin.elapsed() > PATIENCE {
            return Err("no flood began".into());
        }
    }
    datapath.tick().await;
    assert_eq!(setting()?, "2");
    // Ends by itself if nobody goes on; while it lasts the kernel's check takes what XDP gave.
    assert!(exchange(lab, &listeners, VIP4)?);
    let begin = Instant::now();
    while setting()? != before {
        datapath.tick().await;
        tokio::task::yield_now().await;
        if begin.elapsed() > PATIENCE {
            return Err("the flood did not end".into());
        }
    }
    assert!(datapath.counters()?.shield.flooded.is_empty());
    assert!(!exchange(lab, &listeners, VIP4)?);
    Ok(datapath.close().await?)
}

fn deny(network: &str) -> PrefixRule {
    PrefixRule { service: 0, network: network.parse().expect("a prefix"), allow: false, until: None }
}

fn denying(prefixes: Vec<PrefixRule>) -> Desired {
    Desired { prefixes: Arc::new(prefixes), ..desired() }
}

async fn told(lab: &Lab) -> Result<(), Failed> {
    let mut datapath = KernelDatapath::open(options("told", Steering::Hash), None).await?;
    datapath.apply(&denying(vec![deny("10.77.0.1/32"), deny("fd77::1/128")])).await?;
    let mut events = datapath.events().ok_or("no events")?;
    let begin = std::time::SystemTime::now();
    for (vip, source) in [(VIP4, "10.77.0.1"), (VIP6, "fd77::1")] {
        lab.connect(at(vip, 443), privilege::cpus()[0]).expect_err("it is denied");
        let event = tokio::time::timeout(PATIENCE, events.recv()).await??;
        assert_eq!((event.verdict, event.service, event.protocol), ("denied", 1, 6), "{event:?}");
        assert_eq!(event.source.ip().to_string(), source);
        assert_ne!(event.source.port(), 0);
        assert_eq!(event.destination, at(vip, 443));
        assert!(event.bytes >= 54 && event.interface != 0, "{event:?}");
        let slack = Duration::from_secs(1);
        assert!(event.time + slack > begin && event.time < std::time::SystemTime::now() + slack, "{event:?}");
        // The SYN was sent again meanwhile.
        while events.try_recv().is_ok() {}
    }
    Ok(datapath.close().await?)
}

async fn many(_lab: &Lab) -> Result<(), Failed> {
    let mut datapath = KernelDatapath::open(options("many", Steering::Hash), None).await?;
    let address = |index: u32| Ipv4Addr::from_bits(0x1400_0000 + 2 * index);
    let rule = |index| PrefixRule {
        service: 0,
        network: ipnet::IpNet::from(std::net::IpAddr::from(address(index))),
        allow: false,
        until: None,
    };
    let rules = Arc::new((0..MANY).map(rule).collect::<Vec<_>>());
    let begin = Instant::now();
    datapath.apply(&Desired { prefixes: Arc::clone(&rules), ..desired() }).await?;
    let loaded = begin.elapsed();
    assert_eq!(datapath.counters()?.shield.prefixes, u64::from(MANY));

    let mut more = (*rules).clone();
    more.extend((MANY..MANY + 100_000).map(rule));
    let error = datapath.apply(&denying(more)).await.expect_err("more than there is room for");
    assert!(matches!(error, DatapathError::Full { key: "max_prefixes", bound: 1_048_576, .. }), "{error}");
    assert_eq!(datapath.counters()?.shield.prefixes, u64::from(MANY));

    let begin = Instant::now();
    datapath.apply(&denying(vec![deny("192.0.2.0/24")])).await?;
    eprintln!("datapath: {MANY} prefixes written in {loaded:?}, removed in {:?}", begin.elapsed());
    assert_eq!(datapath.counters()?.shield.prefixes, 1);
    datapath.apply(&Desired { prefixes: rules, ..desired() }).await?;
    assert_eq!(datapath.counters()?.shield.prefixes, u64::from(MANY));
    Ok(datapath.close().await?)
}

async fn outdated(lab: &Lab) -> Result<(), Failed> {
    let mut datapath = KernelDatapath::open(options("outdated", Steering::Hash), None).await?;
    let until = Some(std::time::SystemTime::now() + Duration::from_millis(300));
    let rules = vec![PrefixRule { until, ..deny("10.77.0.0/24") }, deny("192.0.2.0/24")];
    let listeners = datapath.apply(&denying(rules)).await?;
    assert_eq!(datapath.counters()?.shield.prefixes, 2);
    let begin = Instant::now();
    while datapath.counters()?.shield.prefixes != 1 {
        datapath.tick().await;
        if begin.elapsed() > PATIENCE {
            return Err("it is still there".into());
        }
    }
    assert!(!exchange(lab, &listeners, VIP4)?);
    Ok(datapath.close().await?)
}
