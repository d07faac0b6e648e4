//! Forwarded services and rules: what reaches whom, and what stays.

use super::*;
use ipnet::IpNet;

const L4: &str = "[edge]\ndatapath = \"generic\"\ninterfaces = [\"lo\"]\n[shield]\ndeny = [\"203.0.113.0/24\"]\n\
    [service.dns]\nmode = \"l4\"\naddresses = [\"192.0.2.53:53\"]\nforward = \"nat\"\npool = \"p\"\n\
    [pool.p]\nbackends = [\"10.0.0.1:80\"]\nhealth.type = \"tcp\"\n";

impl Edge {
    async fn rule(&self, change: PrefixChange) -> Result<u64, Refusal> {
        self.make(Change::Rule(change)).await
    }

    /// What the datapath was told last: service, network, allowed.
    fn rules(&self) -> Vec<(u32, String, bool)> {
        let desired = self.world.desired.lock().unwrap();
        desired.prefixes.iter().map(|rule| (rule.service, rule.network.to_string(), rule.allow)).collect()
    }
}

fn add(network: &str, allow: bool, service: Option<&str>, seconds: Option<u32>) -> PrefixChange {
    PrefixChange::Add { service: service.map(str::to_owned), network: network.parse().unwrap(), allow, seconds }
}

#[tokio::test]
async fn what_concerns_forwarded_services_alone_never_reaches_the_worker() {
    let edge = Edge::start_with(L4).await;
    edge.world.take();
    edge.pool(PoolChange::Drain { seconds: None }).await.unwrap();
    assert_eq!(edge.world.take(), [Seen::Applied(0), Seen::Forwarded(vec![BackendState::Draining]), Seen::Listening]);
    edge.pool(PoolChange::Enable).await.unwrap();
    edge.world.take();
    edge.verdict(false).await;
    assert_eq!(edge.world.take(), [Seen::Applied(0), Seen::Forwarded(vec![BackendState::Down]), Seen::Listening]);
    edge.pool(PoolChange::Weight { weight: 7 }).await.unwrap();
    assert_eq!(edge.world.desired.lock().unwrap().forwards[0].backends[0].weight, 7);
    edge.rule(add("192.0.2.0/24", false, None, None)).await.unwrap();
    assert!(!edge.world.take().iter().any(|seen| matches!(seen, Seen::Published(_))));
    assert_eq!(edge.state().await.generation, 1);
}

#[tokio::test]
async fn what_places_flows_stays_while_its_service_stands() {
    let edge = Edge::start_with(L4).await;
    for (key, line) in [("table_size", "table_size = 251"), ("hash", "hash = \"source\"")] {
        let refused =
            edge.reload(&L4.replace("forward =", &format!("{line}\nforward ="))).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("`{key}` of service \"dns\" is fixed")), "{refused}");
        assert_eq!(edge.world.desired.lock().unwrap().forwards[0].slots, 65_537);
    }
    let other = L4.replace("forward =", "table_size = 251\nforward =");
    edge.reload(&other.replace("service.dns", "service.names")).await.unwrap();
    assert_eq!(edge.world.desired.lock().unwrap().forwards[0].slots, 251);
}

#[tokio::test]
async fn a_backend_that_a_service_cannot_have_is_refused_at_run_time_too() {
    let edge = Edge::start_with(L4).await;
    edge.world.take();
    let address = "192.0.2.53:80".parse().unwrap();
    let change = PoolChange::Add { weight: None };
    let result = edge.make(Change::Pool { pool: "p".into(), address, change }).await;
    let refused = result.unwrap_err().to_string();
    assert!(refused.contains("has an address of service \"dns\""), "{refused}");
    assert_eq!(edge.world.take(), []);
}

#[tokio::test]
async fn rules_of_run_time_lie_over_the_file_and_survive_a_reload() {
    let edge = Edge::start_with(L4).await;
    let file = (0, "203.0.113.0/24".to_owned(), false);
    assert_eq!(edge.rules(), std::slice::from_ref(&file));
    edge.rule(add("203.0.113.0/24", true, None, None)).await.unwrap();
    edge.rule(add("192.0.2.0/24", false, Some("dns"), Some(3600))).await.unwrap();
    let both = [(0, "203.0.113.0/24".to_owned(), true), (1, "192.0.2.0/24".to_owned(), false)];
    assert_eq!(edge.rules(), both);
    edge.reload(&L4.replace("203.0.113.0/24\"", "203.0.113.0/24\", \"198.51.100.1\"")).await.unwrap();
    let added = (0, "198.51.100.1/32".to_owned(), false);
    assert_eq!(edge.rules(), [added, both[0].clone(), both[1].clone()]);
    let network: IpNet = "203.0.113.0/24".parse().unwrap();
    let remove = || PrefixChange::Remove { service: None, network };
    edge.rule(remove()).await.unwrap();
    assert_eq!(edge.rules()[1], file);
    assert!(matches!(edge.rule(remove()).await, Err(Refusal::Change(ChangeError::FileRule(_)))));
    let unknown = edge.rule(add("192.0.2.0/24", false, Some("nobody"), None)).await;
    assert!(matches!(unknown, Err(Refusal::Change(ChangeError::NoService(_)))));
}

#[tokio::test]
async fn a_change_of_health_makes_no_rules_anew() {
    let edge = Edge::start_with(L4).await;
    let before = Arc::clone(&edge.world.desired.lock().unwrap().prefixes);
    edge.verdict(false).await;
    edge.reload(&(L4.to_owned() + "rise = 2\n")).await.unwrap_err();
    edge.reload(&L4.replace("[\"10.0.0.1:80\"]", "[\"10.0.0.1:80\", \"10.0.0.2:80\"]")).await.unwrap();
    let after = Arc::clone(&edge.world.desired.lock().unwrap().prefixes);
    assert!(Arc::ptr_eq(&before, &after));
}

#[tokio::test(start_paused = true)]
async fn the_datapath_is_ticked_and_rules_run_out() {
    let edge = Edge::start_with(L4).await;
    edge.rule(add("192.0.2.0/24", false, None, Some(1))).await.unwrap();
    edge.rule(add("203.0.113.0/24", true, None, Some(1))).await.unwrap();
    // The rules go by the wall clock, the ticks by a clock that the test need not wait for.
    let file = [(0, "203.0.113.0/24".to_owned(), false)];
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while edge.rules() != file {
        assert!(std::time::Instant::now() < deadline, "the file's rule does not hold again: {:?}", edge.rules());
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    assert!(edge.world.ticks.load(Ordering::Relaxed) > 1);
    assert!(edge.state().await.overlay.rules().is_empty());
}

#[tokio::test]
async fn sockets_filter_nothing_and_say_so() {
    let edge = Edge::start().await;
    assert!(matches!(edge.rule(add("192.0.2.0/24", false, None, None)).await, Err(Refusal::Unfiltered)));
    assert!(edge.ask(|reply| Event::Watch { reply }).await.is_none());
}
