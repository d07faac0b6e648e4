//! Pools: how they are spread, bounded, and what is done about failures.

use super::*;
use tls_worker::api::{BackendRole, Balance, Outliers, Retry, RetryBudget, RetryOn};

fn with(pool: &str) -> String {
    let start = GOOD.find("[pool.api]").unwrap();
    format!("{}[pool.api]\n{pool}\n", &GOOD[..start])
}

#[test]
fn every_key_of_a_pool_has_its_place() {
    let text = with(
        r#"
backends = [
  "198.51.100.3:80",
  { address = "198.51.100.4:80", priority = 1, max_connections = 20, max_requests = 30 },
  { address = "198.51.100.5:80", backup = true },
]
balance = "hash"
hash_key = "${header('x-tenant')}"
bounded_load = 125
panic_threshold = 30
min_up = 2
protocol = "h2c"
max_streams = 50
hedge_after = "20ms"
limits = { max_connections = 100, max_requests = 200, max_pending = 300, queue = 10, queue_timeout = "2s" }
retry = { tries = 3, on = ["connect", "reset", 503], methods = "idempotent", try_timeout = "1s", buffer = "64KiB", budget = 30, budget_per_second = 5 }
outliers = { errors = 7, gateway_errors = 0, stdev_factor = 1900, ejection = "10s", max_ejection = "1m", max_percent = 50 }
"#,
    );
    let text = text.replacen("path = \"/api/\"", "path = \"/api/\"\nretry = { tries = 1 }", 1);
    let Loaded { config, warnings } = Files::new().parse(&text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(warnings.views(), []);
    let pool = config.pool("api").unwrap();
    assert_eq!(pool.balance, Balance::Hash);
    assert_eq!(pool.balancing.hash_key.as_deref(), Some("${header('x-tenant')}"));
    assert_eq!((pool.balancing.bounded_load, pool.balancing.panic_percent, pool.balancing.min_up), (Some(125), 30, 2));
    assert!(pool.multiplex.h2c && pool.multiplex.max_streams == 50);
    assert_eq!(pool.hedge.unwrap().after, Duration::from_millis(20));
    assert_eq!((pool.limits.max_pending, pool.limits.queue), (Some(300), 10));
    let second = BackendRole { priority: 1, max_connections: Some(20), max_requests: Some(30), backup: false };
    let third = BackendRole { backup: true, ..BackendRole::default() };
    assert_eq!(pool.roles.values().copied().collect::<Vec<_>>(), [second, third]);
    let retry = Retry {
        tries: 3,
        on: vec![RetryOn::Connect, RetryOn::Reset],
        codes: vec![503],
        try_timeout: Some(Duration::from_secs(1)),
        buffer: 64 << 10,
        ..Retry::default()
    };
    assert_eq!((&pool.retry, pool.retry_budget), (&retry, RetryBudget { percent: 30, per_second: 5 }));
    let outliers = pool.outliers.unwrap();
    let expected = Outliers {
        errors: Some(7),
        gateway_errors: None,
        stdev_factor: Some(1900),
        ejection: Duration::from_secs(10),
        max_ejection: Duration::from_secs(60),
        max_percent: 50,
        ..Outliers::default()
    };
    assert_eq!(outliers, expected);
    assert_eq!(config.services[0].routes[0].retry.as_ref().map(|retry| retry.tries), Some(1));
}

#[test]
fn what_cannot_be_is_said_with_its_remedy() {
    let one = "backends = [\"198.51.100.3:80\"]\n";
    for (more, message, help) in [
        ("balance = \"leastconn\"", "none of", "\"least_connections\""),
        ("hash_key = \"${client.ip}\"", "belongs to balance = \"hash\"", "remove `hash_key`"),
        ("balance = \"hash\"\nhash_key = \"${client.pi}\"", "client.pi", "client.ip"),
        ("balance = \"hash\"\nhash_key = \"x\"", "all would go to one backend", "${client.ip}"),
        ("balance = \"hash\"\nhash_key = \"${response.status}\"", "known only after", "${cookie('id')}"),
        ("balance = \"hash\"\nslow_start = \"10s\"", "does not go with", "remove `slow_start`"),
        ("balance = \"hash\"\nbounded_load = 99", "out of bounds: 99", "100 to 1000"),
        ("min_up = 3", "`min_up` is 3, of 1", "leave it out"),
        ("protocol = \"h2c\"\ntls = { verify = false }", "this pool has TLS", "alpn = [\"h2\"]"),
        ("limits = { queue = 0, queue_timeout = \"1s\" }", "nobody waits", "raise `queue`"),
        ("retry = { tries = 1, on = [503] }", "with one try", "tries = 2"),
        ("retry = { on = [] }", "nothing is a reason", "\"connect\""),
        ("retry = { on = [\"503\"] }", "no reason to try again", "a code such as 503"),
        ("retry = { on = [200] }", "out of bounds: 200", "400 to 599"),
        ("retry = { buffer = \"1KiB\" }", "`buffer` is of no use", "\"reset\""),
        ("retry = { on = [\"reset\"], methods = \"any\" }", "a POST may be done twice", "leave `methods` out"),
        (
            "outliers = { gateway_errors = 0, connect_failures = 0 }",
            "nothing makes a backend an outlier",
            "remove the table",
        ),
        ("outliers = { ejection = \"10m\" }", "shorter than", "at least as long"),
    ] {
        let views = Files::new().views(&with(&format!("{one}{more}")));
        let told = views.iter().find(|view| view.message.contains(message));
        let told = told.unwrap_or_else(|| panic!("{more}: {views:#?}"));
        assert!(told.help.as_deref().unwrap_or_default().contains(help), "{more}: {told:#?}");
    }
    for (backend, message) in [
        ("{ address = \"198.51.100.3:80\", backup = true }", "every backend is a backup"),
        ("{ address = \"198.51.100.3:80\", backup = true, priority = 1 }", "a backup has no priority"),
        ("{ address = \"198.51.100.3:80\", priority = 256 }", "out of bounds: 256"),
        ("{ address = \"198.51.100.3:80\", max_connections = 0 }", "out of bounds: 0"),
    ] {
        let views = Files::new().views(&with(&format!("backends = [{backend}]")));
        assert!(views.iter().any(|view| view.message.contains(message)), "{backend}: {views:#?}");
    }
    let stream = with(&format!("{one}balance = \"hash\"\nhash_key = \"${{request.path}}\""))
        + "[service.bytes]\naddresses = [\"192.0.2.9:443\"]\nmode = \"passthrough\"\npool = \"api\"\n";
    assert!(Files::new().only(&stream).message.contains("has no requests"));
}
