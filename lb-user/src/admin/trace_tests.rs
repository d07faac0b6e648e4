//! Ways that arrive, and why others do not.

use super::*;
use crate::datapath::FlowReason;
use crate::reconcile::testing;

fn asks(client: &str, to: &str, http: Option<(&str, &str)>) -> TraceRequest {
    TraceRequest {
        client: client.parse().unwrap(),
        to: to.parse().unwrap(),
        protocol: Protocol::Tcp,
        http: http.map(|(host, path)| TraceHttp {
            method: "GET".into(),
            host: host.into(),
            path: path.into(),
            query: None,
            headers: vec![],
            sni: Some(host.into()),
        }),
    }
}

fn said(view: &TraceView) -> String {
    view.steps.iter().map(|step| format!("{}: {}\n", step.stage, step.says)).collect()
}

#[test]
fn a_request_arrives_at_its_pool_or_ends_with_the_reason() {
    let mut state = testing::state("10.0.0.1:80".parse().unwrap());
    let now = SystemTime::UNIX_EPOCH;
    let request = asks("192.0.2.7:0", "127.0.0.1:8000", Some(("a.test", "/")));
    let view = trace(&state, None, &request, now);
    assert!(view.arrives && view.service.as_deref() == Some("web"), "{view:?}");
    for part in ["service: 127.0.0.1:8000/tcp is web", "shield: none", "route: default: p", "10.0.0.1:80 up"] {
        assert!(said(&view).contains(part), "{part}: {}", said(&view));
    }
    let nowhere = trace(&state, None, &asks("192.0.2.7:0", "127.0.0.1:9", None), now);
    assert!(!nowhere.arrives && said(&nowhere).contains("no service has 127.0.0.1:9/tcp"), "{nowhere:?}");
    let open = trace(&state, None, &asks("192.0.2.7:0", "127.0.0.1:8000", None), now);
    assert!(open.arrives && said(&open).contains("give an address such as"), "{open:?}");

    let mut config = crate::config::Config::clone(&state.config);
    config.pools[0].backends.clear();
    state.config = config.into();
    let empty = trace(&state, None, &request, now);
    assert!(!empty.arrives && empty.steps.last().unwrap().says.ends_with("503"), "{empty:?}");
}

#[test]
fn the_longest_prefix_decides_and_run_time_goes_first() {
    let mut state = testing::forwarding();
    let mut config = crate::config::Config::clone(&state.config);
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    config.prefixes = std::sync::Arc::new(
        [
            (None, [(net("192.0.2.0/24"), false), (net("198.51.100.7/32"), false)].into()),
            (Some("dns".to_owned()), [(net("192.0.2.9/32"), true)].into()),
        ]
        .into(),
    );
    state.config = config.into();
    let now = SystemTime::UNIX_EPOCH;
    let decided = |state: &State, client: &str| rule(state, "dns", client.parse().unwrap(), now);
    assert_eq!(decided(&state, "192.0.2.1"), Some((net("192.0.2.0/24"), false, "by the config")));
    assert_eq!(decided(&state, "192.0.2.9"), Some((net("192.0.2.9/32"), true, "by the config")));
    assert_eq!(decided(&state, "203.0.113.1"), None);
    let change = crate::reconcile::PrefixChange::Add {
        service: None,
        network: net("198.51.100.7/32"),
        allow: true,
        seconds: None,
    };
    state.overlay = state.overlay.with_rule(&state.config, change, now).unwrap();
    assert_eq!(decided(&state, "198.51.100.7"), Some((net("198.51.100.7/32"), true, "at run time")));

    let denied = trace(&state, None, &asks("192.0.2.1:5000", "192.0.2.53:53", None), now);
    assert!(!denied.arrives && said(&denied).contains("denied by 192.0.2.0/24, by the config"), "{denied:?}");
}

#[test]
fn a_forwarded_flow_is_told_its_backend() {
    let state = testing::forwarding();
    let answer = FlowAnswer {
        backend: Some("10.0.0.7:5353".parse().unwrap()),
        reason: Some(FlowReason::Settled),
        ..FlowAnswer::default()
    };
    let request = asks("203.0.113.1:0", "192.0.2.53:53", None);
    let view = trace(&state, Some(&answer), &request, SystemTime::UNIX_EPOCH);
    assert!(view.arrives && said(&view).contains("backend: 10.0.0.7:5353 of q"), "{view:?}");
    let none = FlowAnswer { backend: None, reason: Some(FlowReason::NoBackend), ..answer };
    let view = trace(&state, Some(&none), &request, SystemTime::UNIX_EPOCH);
    assert!(!view.arrives && said(&view).contains("none may be chosen"), "{view:?}");
}

#[test]
fn an_exact_name_goes_before_a_wildcard() {
    let state = testing::ending_tls();
    let tls = state.config.services[0].tls.as_ref().unwrap();
    assert_eq!(policy(&tls.policies, "ADMIN.example").unwrap().names, ["admin.example"]);
    assert!(policy(&tls.policies, "other.example").is_none());
    let to = state.config.services[0].addresses[0];
    let to = SocketAddr::new(to.address, to.port.unwrap()).to_string();
    let refused = trace(&state, None, &asks("192.0.2.7:0", &to, Some(("other.example", "/"))), SystemTime::UNIX_EPOCH);
    assert!(!refused.arrives && said(&refused).contains("unrecognized_name"), "{refused:?}");
    let let_in = trace(&state, None, &asks("192.0.2.7:0", &to, Some(("admin.example", "/"))), SystemTime::UNIX_EPOCH);
    assert!(said(&let_in).contains("without a good certificate of the client it ends here"), "{let_in:?}");
}
