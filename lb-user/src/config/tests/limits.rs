//! `[service.NAME.http]`: what it says, and what cannot be.

use super::*;
use tls_worker::api::{HttpLimits, PathPolicy, PathRule};

const SERVICE: &str = "[edge]\nname = \"x\"\ndatapath = \"sockets\"\n[pool.p]\nbackends = [\"192.0.2.9:80\"]\n\
    [service.web]\nmode = \"http\"\naddresses = [\"192.0.2.1:80\"]\npool = \"p\"\n";

fn read(more: &str) -> (PathPolicy, HttpLimits) {
    let config = Files::new().parse(&format!("{SERVICE}{more}")).unwrap().config;
    let service = &config.services[0];
    (service.path, service.limits)
}

#[test]
fn without_a_table_there_are_the_defaults() {
    assert_eq!(read(""), Default::default());
    assert_eq!(read("[service.web.http]\n"), Default::default());
}

#[test]
fn every_key_is_read() {
    let (path, limits) = read(
        "[service.web.http]\nmax_header_size = \"16KiB\"\nmax_headers = 50\nmax_uri = 4096\nmax_body = \"5GiB\"\n\
         body_timeout = \"5s\"\nmin_rate = 1000\nmin_rate_grace = \"3s\"\nmax_requests = 7\nmax_age = \"1h\"\n\
         path = { dot_segments = \"reject\", double_slashes = \"keep\", encoded_slashes = \"normalize\", \
         percent_encoding = \"keep\" }\nh2 = { max_streams = 9, stall_timeout = \"0s\", max_pings = 3 }\n",
    );
    assert_eq!((path.dot_segments, path.double_slashes), (PathRule::Reject, PathRule::Keep));
    assert_eq!((path.encoded_slashes, path.percent_encoding), (PathRule::Normalize, PathRule::Keep));
    assert_eq!((limits.header_bytes, limits.header_fields, limits.uri_bytes), (16 << 10, 50, 4096));
    assert_eq!((limits.body_bytes, limits.min_rate, limits.requests_per_connection), (5 << 30, 1000, 7));
    assert_eq!((limits.http2.streams, limits.http2.pings), (9, 3));
    assert!(limits.http2.stall.is_zero());
}

#[test]
fn impossible_limits_are_told_with_a_remedy() {
    for (more, message, help) in [
        ("max_uri = \"2KiB\"\nmax_header_size = \"2KiB\"", "does not fit a header", "`max_header_size` larger"),
        ("max_header_size = \"4KiB\"", "does not fit a header", "`max_header_size` larger"),
        ("max_headers = 0", "out of bounds", "1 to 1000"),
        ("max_body = \"5TB\"", "is no size", "GiB"),
        ("max_body = -1", "negative", "0 for no bound"),
        ("min_rate = 0\nmin_rate_grace = \"5s\"", "a grace of no rate", "remove `min_rate_grace`"),
        ("body_timeout = \"10m\"", "never reached", "timeouts.idle"),
        ("path = { dot_segments = \"normalise\" }", "is none of", "did you mean \"normalize\""),
        ("max_bodies = 1", "unknown key `max_bodies`", "did you mean `max_body`"),
    ] {
        let views = Files::new().views(&format!("{SERVICE}[service.web.http]\n{more}\n"));
        let told = |view: &&ProblemView| {
            view.message.contains(message) && view.help.as_deref().is_some_and(|text| text.contains(help))
        };
        assert!(views.iter().any(|view| told(&view)), "{more}: {views:#?}");
    }
    let passthrough =
        SERVICE.replace("mode = \"http\"", "mode = \"passthrough\"") + "[service.web.http]\nmax_uri = 100\n";
    assert!(Files::new().views(&passthrough).iter().any(|view| view.message.contains("has no requests")));
}

#[test]
fn connections_are_bounded_by_what_the_host_lets_be_open() {
    let files = Files::new();
    let with = |open_files: u64, more: &str| {
        let text = GOOD.replace("cpus = [1]\n", &format!("cpus = [1]\n{more}"));
        let loaded = parse(&text, &files.0.path().join("edge.toml"), &Host { open_files, ..host() }).unwrap();
        let warned: Vec<_> = loaded.warnings.views().into_iter().map(|view| (view.message, view.help)).collect();
        (loaded.config.edge.max_connections, warned)
    };
    assert_eq!(with(1_048_576, ""), (131_072, vec![]));
    assert_eq!(with(5024, ""), (2000, vec![]));
    assert_eq!(with(5024, "max_connections = 2000\n"), (2000, vec![]));
    let (most, warned) = with(5024, "max_connections = 2001\n");
    assert_eq!((most, warned.len()), (2001, 1));
    assert_eq!(warned[0].0, "2001 connections may need 5026 open files, and the limit here is 5024");
    assert!(
        warned[0].1.as_ref().is_some_and(|help| help.contains("LimitNOFILE") && help.contains("2000")),
        "{warned:?}"
    );
    let bad = files.only(&GOOD.replace("cpus = [1]\n", "cpus = [1]\nmax_connections = 1\n"));
    assert!(bad.message.contains("max_connections"), "{bad:?}");
}
