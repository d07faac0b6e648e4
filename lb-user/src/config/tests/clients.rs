//! What services say of their clients: what is read, and what is said of what cannot be.

use super::*;
use tls_worker::api::{ClientLimits, Forwarding, ProxyVersion, Rate};

const CLIENTS: &str = r#"
[edge]
datapath = "sockets"

[service.web]
addresses = ["127.0.0.1:80"]
mode = "http"
pool = "app"
trusted_proxies = ["10.0.0.0/8", "2001:db8::1"]
client_address_from = "Forwarded"
client_ip_header = "Client-IP"
request_id_header = "x-request-id"
proxy_protocol = { from = ["10.0.0.0/8"], required = false, timeout = "1s", max_size = "1KiB" }
forwarded_headers = { x_forwarded = false, forwarded = true, x_real_ip = true }

[service.web.limits]
connections = 1000
requests_per_second = 500
burst = 700
per_source_connections = 10
per_source_requests_per_second = 5
source_prefix_v4 = 24
source_prefix_v6 = 48
max_sources = 5000

[service.mail]
addresses = ["127.0.0.1:25"]
mode = "tcp"
pool = "mail"
proxy_protocol = { from = ["10.0.0.0/8"] }
limits = { per_source_connections = 5 }

[pool.app]
backends = ["127.0.0.1:8080"]

[pool.mail]
backends = ["127.0.0.1:2525"]
proxy_protocol = "v1"
"#;

#[test]
fn clients_are_read() {
    let config = parse(CLIENTS, Path::new("clients.toml"), &host()).unwrap().config;
    let (web, mail) = (&config.services[0], &config.services[1]);
    assert_eq!(
        web.forwarding,
        Forwarding {
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::1/128".parse().unwrap()],
            address_header: "forwarded".into(),
            x_forwarded: false,
            forwarded: true,
            x_real_ip: true,
            client_ip_header: Some("client-ip".into()),
            request_id_header: Some("x-request-id".into()),
        }
    );
    assert_eq!(
        web.client_limits,
        ClientLimits {
            connections: Some(1000),
            requests: Some(Rate { per_second: 500, burst: 700 }),
            source_connections: Some(10),
            source_requests: Some(Rate { per_second: 5, burst: 5 }),
            source_prefix_v4: 24,
            source_prefix_v6: 48,
            max_sources: 5000,
        }
    );
    let header = |service: &tls_worker::api::Service| service.proxy_header.clone().unwrap();
    assert_eq!(
        (header(web).required, header(web).timeout, header(web).max_size),
        (false, Duration::from_secs(1), 1024)
    );
    assert_eq!((header(mail).required, header(mail).timeout), (true, Duration::from_secs(3)));
    assert_eq!((mail.mode, mail.client_limits.source_connections, mail.routes.len()), (Mode::Tcp, Some(5), 1));
    assert_eq!((config.pools[0].proxy_version, config.pools[1].proxy_version), (None, Some(ProxyVersion::V1)));
}

#[test]
fn each_mistake_of_clients_is_told() {
    // (text, what stands instead, part of message, part of help)
    let table = [
        ("[\"10.0.0.0/8\", \"2001:db8::1\"]", "[\"10.0.0.1/8\"]", "has bits of a host", "\"10.0.0.0/8\""),
        ("trusted_proxies = [\"10.0.0.0/8\", \"2001:db8::1\"]\n", "", "no proxy is trusted", "trusted_proxies"),
        ("\"Client-IP\"", "\"host\"", "\"host\"", "\"client-ip\""),
        ("\"Client-IP\"", "\"x-forwarded-for\"", "x-forwarded-for", "of your own"),
        ("\"Client-IP\"", "\"x-request-id\"", "has this name already", "another name"),
        ("\"Client-IP\"", "\"client ip\"", "no header name", "token"),
        (
            "from = [\"10.0.0.0/8\"], required = false",
            "from = [], required = false",
            "nobody may send",
            "name the proxies",
        ),
        ("from = [\"10.0.0.0/8\"], required = false", "required = false", "lacks the key `from`", "10.0.0.0/8"),
        ("required = false", "required = \"no\"", "must be true or false", "true or false"),
        ("timeout = \"1s\"", "timeout = \"2h\"", "out of bounds", "60s"),
        ("\"1KiB\"", "\"1MiB\"", "out of bounds", "256 to 16384"),
        ("x_real_ip", "x_real_ips", "unknown key", "did you mean `x_real_ip`"),
        ("connections = 1000", "connections = 0", "out of bounds: 0", "1 to"),
        ("requests_per_second = 500\n", "", "burst of no rate", "`requests_per_second`"),
        ("source_prefix_v4 = 24", "source_prefix_v4 = 33", "out of bounds", "8 to 32"),
        ("per_source_connections = 5 }", "requests_per_second = 5 }", "`requests_per_second` belongs to", "\"http\""),
        ("[\"10.0.0.0/8\"] }", "[\"10.0.0.0/8\"], required = false }", "does not go with mode \"tcp\"", "remove"),
        ("pool = \"mail\"", "pool = \"mail\"\nclient_ip_header = \"a\"", "`client_ip_header` belongs to", "\"http\""),
        ("pool = \"mail\"", "pool = \"mail\"\nroutes = []", "`routes` belongs to", "bytes are not looked at"),
        ("pool = \"mail\"", "pool = \"mail\"\nunknown_sni = \"refuse\"", "`unknown_sni` belongs to", "remove"),
        ("\"v1\"", "\"v3\"", "none of \"v1\", \"v2\"", "did you mean"),
        ("mode = \"tcp\"", "mode = \"http\"", "does not go with service \"mail\"", "\"tcp\""),
    ];
    for (text, instead, message, help) in table {
        assert!(CLIENTS.contains(text), "{text}");
        let problems = match parse(&CLIENTS.replacen(text, instead, 1), Path::new("clients.toml"), &host()) {
            Err(LoadError::Invalid(problems)) => problems.views(),
            other => panic!("{text} -> {instead}: {other:?}"),
        };
        let told = |view: &ProblemView| {
            view.message.contains(message) && view.help.as_deref().is_some_and(|text| text.contains(help))
        };
        assert!(problems.iter().any(told), "{text} -> {instead}: {problems:#?}");
    }
}
