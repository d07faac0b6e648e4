//! Addresses of names: they join, they leave, and what operators say of them stays.

use super::*;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

const NAMED: &str = "[edge]\ndatapath = \"sockets\"\n[service.a]\naddresses = [\"127.0.0.1:8001\"]\nmode = \"http\"\npool = \"p\"\n\
    [pool.p]\nbackends = [\"10.0.0.1:80\", { address = \"app.test:81\", weight = 3 }]\ndrain_timeout = \"60s\"\n";

fn set(list: &[u8]) -> BTreeSet<IpAddr> {
    list.iter().map(|last| IpAddr::from([10, 0, 1, *last])).collect()
}

impl Edge {
    async fn resolved(&self, host: &str, list: &[u8]) {
        self.events.send(Event::Resolved { host: host.into(), addresses: set(list) }).await.unwrap();
        self.state().await;
    }

    /// Backends as the worker has them, in a few words.
    fn backends(&self) -> String {
        let snapshot = self.world.snapshot.lock().unwrap();
        let word = |backend: &tls_worker::api::Backend| {
            format!("{}*{} {}", backend.address, backend.weight, crate::admin::view::state_word(backend.state))
        };
        snapshot.pools[0].backends.iter().map(word).collect::<Vec<_>>().join(", ")
    }

    async fn change(&self, last: u8, change: PoolChange) -> Result<u64, Refusal> {
        let address = ([10, 0, 1, last], 81).into();
        self.make(Change::Pool { pool: "p".into(), address, change }).await
    }
}

#[tokio::test(start_paused = true)]
async fn addresses_join_at_once_and_leave_by_draining() {
    let edge = Edge::start_with(NAMED).await;
    assert_eq!(edge.backends(), "10.0.0.1:80*1 up");
    edge.resolved("app.test", &[1, 2]).await;
    assert_eq!(edge.backends(), "10.0.0.1:80*1 up, 10.0.1.1:81*3 up, 10.0.1.2:81*3 up");
    edge.resolved("app.test", &[2, 3]).await;
    assert_eq!(edge.backends(), "10.0.0.1:80*1 up, 10.0.1.1:81*3 draining, 10.0.1.2:81*3 up, 10.0.1.3:81*3 up");
    edge.world.take();
    // Nothing new, and nobody's name.
    edge.resolved("app.test", &[2, 3]).await;
    edge.resolved("other.test", &[9]).await;
    assert_eq!(edge.world.take(), []);
    tokio::time::sleep(Duration::from_secs(30)).await;
    // It comes back before it has left.
    edge.resolved("app.test", &[1, 3]).await;
    assert_eq!(edge.backends(), "10.0.0.1:80*1 up, 10.0.1.1:81*3 up, 10.0.1.2:81*3 draining, 10.0.1.3:81*3 up");
    tokio::time::sleep(Duration::from_secs(62)).await;
    assert_eq!(edge.backends(), "10.0.0.1:80*1 up, 10.0.1.1:81*3 up, 10.0.1.3:81*3 up");
    // A reload of the same file, and one that forgets the name.
    edge.world.take();
    edge.reload(NAMED).await.unwrap();
    assert_eq!(edge.world.take(), []);
    edge.reload(&NAMED.replace(", { address = \"app.test:81\", weight = 3 }", "")).await.unwrap();
    assert_eq!(edge.backends(), "10.0.0.1:80*1 up");
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_says_of_an_address_outlives_its_absence() {
    let edge = Edge::start_with(NAMED).await;
    edge.resolved("app.test", &[1, 2, 3]).await;
    edge.change(1, PoolChange::Disable).await.unwrap();
    edge.change(2, PoolChange::Remove).await.unwrap();
    edge.change(3, PoolChange::Weight { weight: 9 }).await.unwrap();
    let expected = "10.0.0.1:80*1 up, 10.0.1.1:81*3 disabled, 10.0.1.3:81*9 up";
    assert_eq!(edge.backends(), expected);
    edge.resolved("app.test", &[]).await;
    tokio::time::sleep(Duration::from_secs(62)).await;
    assert_eq!(edge.backends(), "10.0.0.1:80*1 up");
    edge.reload(NAMED).await.unwrap();
    edge.resolved("app.test", &[1, 2, 3]).await;
    assert_eq!(edge.backends(), expected);
    edge.change(1, PoolChange::Enable).await.unwrap();
    edge.change(2, PoolChange::Add { weight: None }).await.unwrap();
    assert_eq!(edge.backends(), "10.0.0.1:80*1 up, 10.0.1.1:81*3 up, 10.0.1.2:81*1 up, 10.0.1.3:81*9 up");
}

#[tokio::test]
async fn a_drain_has_the_pools_time_or_its_own() {
    let edge = Edge::start_with(NAMED).await;
    let times = || {
        let snapshot = edge.world.snapshot.lock().unwrap();
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
        (seconds(snapshot.pools[0].drain_timeout), seconds(snapshot.pools[0].backends[0].drain_timeout))
    };
    edge.pool(PoolChange::Drain { seconds: Some(7) }).await.unwrap();
    assert_eq!(times(), (Some(60), Some(7)));
    edge.pool(PoolChange::Drain { seconds: None }).await.unwrap();
    assert_eq!(times(), (Some(60), None));
    edge.pool(PoolChange::Drain { seconds: Some(7) }).await.unwrap();
    edge.pool(PoolChange::Enable).await.unwrap();
    assert_eq!(times(), (Some(60), None));
}

#[tokio::test]
async fn a_reload_is_refused_when_a_new_name_would_leave_a_pool_without_a_backend() {
    let edge = Edge::start_with(NAMED).await;
    // Nobody answers there: the port is one that was free a moment ago.
    let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dns = format!("[dns]\nservers = [\"{server}\"]\ntimeout = \"200ms\"\ntries = 1\n");
    let only = NAMED.replace("\"10.0.0.1:80\", ", "").replace("app.test", "new.test") + &dns;
    let refused = edge.reload(&only).await.unwrap_err().to_string();
    assert!(refused.contains("pool \"p\" would have no backend: \"new.test\" was not looked up: "), "{refused}");
    assert_eq!(edge.backends(), "10.0.0.1:80*1 up");
    // Beside others it may be without one.
    edge.reload(&(NAMED.replace("app.test", "new.test") + &dns)).await.unwrap();
    assert_eq!(edge.backends(), "10.0.0.1:80*1 up");
    // What was there before may stay as it is.
    edge.reload(&only).await.unwrap();
    assert_eq!(edge.backends(), "");
}
