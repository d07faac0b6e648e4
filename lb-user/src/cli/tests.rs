//! The command line as its callers meet it: arguments, words, exit codes.

use super::args::Cli;
use super::{table, table_certificates, table_forward};
use crate::admin::api::*;
use crate::admin::{view, view_certificates};
use crate::datapath::FlowReason;
use crate::reconcile::testing;
use clap::{CommandFactory as _, Parser as _};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn every_verb_is_understood_and_nonsense_is_usage() {
    Cli::command().debug_assert();
    for line in [
        "bailey run --config edge.toml",
        "bailey check --config edge.toml --json",
        "bailey --socket /tmp/x status",
        "bailey service list",
        "bailey service show web",
        "bailey pool list --json",
        "bailey pool show p",
        "bailey pool add p 10.0.0.1:80 --weight 5",
        "bailey pool remove p [2001:db8::1]:80",
        "bailey pool drain p 10.0.0.1:80 --wait --timeout 5",
        "bailey pool enable p 10.0.0.1:80",
        "bailey pool disable p 10.0.0.1:80",
        "bailey pool weight p 10.0.0.1:80 256",
        "bailey flow 10.0.0.9:5000 10.0.0.1:443/tcp",
        "bailey flow [2001:db8::9]:5000 [2001:db8::1]:53/udp",
        "bailey deny add 192.0.2.0/24 --for 1h --service web",
        "bailey deny add 192.0.2.7 --allow",
        "bailey session list app --limit 5 --after x --json",
        "bailey session clear app 192.0.2.7",
        "bailey session clear app --backend 192.0.2.1:80",
        "bailey session clear app --all",
        "bailey deny remove 2001:db8::/32",
        "bailey deny list --service web --json",
        "bailey watch --service web --verdict denied --count 5",
        "bailey decap --interface eth0 --address 192.0.2.1 2001:db8::1 --generic",
        "bailey decap --interface eth0 --address 192.0.2.1 --address 192.0.2.2",
        "bailey cert list --json",
        "bailey cert show shop",
        "bailey cert reload",
        "bailey cert new-key --type rsa-3072 -o a.key",
        "bailey cert request --key a.key --subject CN=a,O=b --dns a.test --dns *.a.test --ip 192.0.2.1 -o a.csr --must-staple",
        "bailey cert self-sign --key a.key --dns a.test --days 30 --ca -o a.pem --force",
        "bailey cert inspect a.pem b.p12 --password-file p --json",
        "bailey cert convert a.pem --key a.key --chain c.pem --to pkcs12 --password-file p -o a.p12",
        "bailey reload",
        "bailey upgrade --binary /usr/bin/bailey --timeout 10s",
        "bailey completions bash",
        "bailey man /tmp/pages",
        "bailey import netscaler ns.conf -o edge.toml --force --json",
        "bailey doctor --config edge.toml --json",
        "bailey top --once --every 0.5 --sort errors --json",
        "bailey trace 203.0.113.7 https://shop.example.com/cart?x=1 -X POST -H x:y --sni a.test --to 192.0.2.1",
        "bailey trace 203.0.113.7:5000 192.0.2.53:53/udp --live --for 5",
        "bailey status --watch",
        "bailey --color always pool show p --watch 0.5 --json",
        "bailey cert list --watch=60 --color=never",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
    for line in [
        "bailey run",
        "bailey cert new-key --type dsa -o a.key",
        "bailey cert new-key",
        "bailey cert request --key a.key -o a.csr",
        "bailey cert request --key a.key --dns a..b -o a.csr",
        "bailey cert self-sign --key a.key --dns a.test --days 0 -o a.pem",
        "bailey cert inspect",
        "bailey cert convert a.pem -o b.pem",
        "bailey pool weight p 10.0.0.1:80 0",
        "bailey pool weight p 10.0.0.1:80 257",
        "bailey pool add p 10.0.0.1",
        "bailey pool add a/b 10.0.0.1:80",
        "bailey flow 10.0.0.9:5000 10.0.0.1:443/sctp",
        "bailey deny add 192.0.2.7/24",
        "bailey session clear app",
        "bailey session clear app x --all",
        "bailey session list app --limit 0",
        "bailey deny add 192.0.2.0/24 --for 0s",
        "bailey deny add",
        "bailey watch --count 0",
        "bailey decap --interface eth0",
        "bailey decap --interface eth0 --address 0.0.0.0",
        "bailey cert show",
        "bailey cert show a/b",
        "bailey statu",
        "bailey man",
        "bailey import netscaler ns.conf",
        "bailey import f5 a -o b",
        "bailey top --every 0",
        "bailey trace 203.0.113.7",
        "bailey trace nobody https://a.test/",
        "bailey trace 203.0.113.7 ftp://a.test/",
        "bailey trace 203.0.113.7 192.0.2.1:80 --for 5",
        "bailey status --watch 0",
        "bailey --watch status",
        "bailey status --color sometimes",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn completions_are_written_for_each_shell() {
    use clap_complete::Shell;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "bailey", &mut script);
        assert!(String::from_utf8(script).unwrap().contains("drain"), "{shell}");
    }
}

#[test]
fn tables_say_what_is_and_what_differs_from_the_file() {
    let state = testing::state("10.0.0.1:80".parse().unwrap());
    let text = table::status(&view::status(&state));
    for part in ["edge test", "UNHEALTHY", "no worker serves", "worker down", "127.0.0.1:8000", "1/1"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let mut pool: PoolView = view::pool(&state, "p").unwrap();
    pool.backends[0].in_file = false;
    pool.removed = vec!["10.0.0.7:80".parse().unwrap()];
    let text = table::pool(&pool);
    for part in ["1 of 1 up", "10.0.0.1:80", "added", "10.0.0.7:80 stands in the file and was removed", "unchecked"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let service = view::service(&state, "web").unwrap();
    assert!(table::service(&service).contains("default"));
    let flow = FlowView {
        service: Some("web".into()),
        worker: Some(1),
        cpu: Some(3),
        hash: Some(7),
        slot: Some(7),
        backend: None,
        reason: Some(FlowReason::Steered),
    };
    let text = table_forward::flow(&flow);
    assert!(text.contains("worker 1, CPU 3") && text.contains("hash chose it"), "{text}");
    let flow = FlowView { backend: Some("10.0.0.1:80".parse().unwrap()), reason: Some(FlowReason::Remembered), ..flow };
    let text = table_forward::flow(&flow);
    assert!(text.contains("backend 10.0.0.1:80") && text.contains("is remembered"), "{text}");
    let flow = FlowView { backend: None, reason: Some(FlowReason::NoBackend), ..flow };
    assert!(table_forward::flow(&flow).contains("no backend may be chosen"));
}

#[test]
fn a_forwarded_service_is_shown_with_its_shares_limits_and_verdicts() {
    let state = testing::forwarding();
    let view = view::service(&state, "dns").unwrap();
    let text = table::service(&view);
    for part in [
        "service dns (l4) at 192.0.2.53:53, [2001:db8::53]:*",
        "tcp, udp by nat to pool q, hash of source",
        "ring 100 slots, 3 moved, 4 watched",
        "remembered 5, evicted 6",
        "25.0%",
        "unreachable by route",
        "packets of a source 10/s (burst 20)",
        "denied dropped 8",
    ] {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(&text).contains(part), "{part} is missing in\n{text}");
    }
    assert!(table::services(&view::services(&state)).contains("192.0.2.53:53"));
    let pool = view::pool(&state, "q").unwrap();
    assert_eq!(pool.backends[0].forwarded[0].packets, 7);
    assert!(table::pool(&pool).contains("25.0%"));
    let status = view::status(&state);
    assert!(status.troubles.iter().any(|trouble| trouble.contains("unreachable by route")), "{status:?}");
}

#[test]
fn rules_are_shown_up_to_a_bound() {
    let rule = RuleView {
        service: None,
        network: "192.0.2.0/24".parse().unwrap(),
        action: "deny".into(),
        origin: "file".into(),
        seconds_left: None,
    };
    let text = table_forward::rules(&Rules { total: 5, rules: vec![rule] });
    for part in ["192.0.2.0/24", "every", "file", "and 4 more; 5 rules"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn certificates_and_policies_are_shown_with_what_is_wrong() {
    let (state, now) = (testing::ending_tls(), std::time::SystemTime::now());
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let has = |text: &str, parts: &[&str]| {
        for part in parts {
            assert!(words(text).contains(part), "{part} is missing in\n{text}");
        }
    };
    let rows = view_certificates::certificates(&state, now);
    let list = table_certificates::certificates(&rows);
    has(
        &list,
        &[
            "shop shop.example",
            "ECDSA P-256",
            "service web, pool p good for 1h59m",
            "1h0m old",
            "STALE service web none",
        ],
    );
    let old = view_certificates::certificate(&state, "old", now).unwrap();
    let shown = table_certificates::certificate(&old);
    has(
        &shown,
        &["/etc/old.pem, /etc/old.key", "responder http://ocsp.example/", "tryLater", "STALE", "no certificate in it"],
    );
    assert_eq!((rows[0].staple.state.as_str(), old.row.staple.state.as_str()), ("good", "none"));
    assert!(rows[0].days_left > 0 && !rows[0].stale && old.row.stale);
    let later = now + std::time::Duration::from_secs(7300);
    assert_eq!(view_certificates::certificates(&state, later)[0].staple.state, "none", "its time is over");

    let service = table::service(&view::service(&state, "web").unwrap());
    has(
        &service,
        &[
            "ALPN h2, http/1.1; clients that ask for an unknown name, or none, are refused",
            "* shop 1.2 to 1.3 off max-age=31536000",
            "admin.example old 1.2 to 1.3 required, 1 CAs, depth 4, 0 CRLs, OCSP optional off",
            "groups X25519MLKEM768",
            "handshakes, sessions: resumed 2",
            "handshakes, refused: per_source 2",
        ],
    );
    let pool = table::pool(&view::pool(&state, "p").unwrap());
    has(&pool, &["NOT VERIFIED, the key by pin alone, pins 1, client certificate shop, ALPN h2, TLS 1.2 to 1.3"]);
    let status = view::status(&state);
    let troubles = status.troubles.join("\n");
    has(
        &troubles,
        &[
            "certificate \"old\" is not current",
            "/etc/old.pem",
            "write a PEM file",
            "\"old\" has no staple: the responder answers tryLater",
        ],
    );
    assert!(!troubles.contains("shop") && !status.healthy);
    let reloaded = CertificatesReloaded {
        generation: 5,
        changed: vec!["certificate shop".into()],
        stale: vec![],
        warnings: vec![],
    };
    has(&table_certificates::reloaded(&reloaded), &["certificate shop: changed", "generation 5"]);
}

/// What the guide tells operators to type: every verb is one, every option is known to it. Words in capitals stand for
/// something, `a\|b` for one of two.
#[test]
fn every_command_of_the_guide_is_one() {
    let guide = include_str!("../../../docs/operating.md");
    let spans = guide.split('`').skip(1).step_by(2).chain(guide.lines().filter_map(|line| line.strip_prefix("# ")));
    let commands = spans.flat_map(|span| span.split("&&")).map(str::trim).filter(|text| text.starts_with("bailey "));
    let mut seen = 0;
    for text in commands {
        let text = text.split(" #").next().unwrap().split('>').next().unwrap();
        let words: Vec<&str> =
            text.split(|c: char| c.is_whitespace() || "[]=,)".contains(c)).filter(|word| !word.is_empty()).collect();
        let mut cli = Cli::command();
        cli.build();
        let mut commands = vec![cli];
        for word in &words[1..] {
            let next =
                word.split("\\|").map(|name| commands[0].find_subcommand(name).cloned()).collect::<Option<Vec<_>>>();
            match next {
                Some(next) if commands[0].has_subcommands() => commands = next,
                _ => break,
            }
        }
        let verb = &commands[0];
        assert!(verb.get_name() != "bailey" || words[1].starts_with('-'), "{text:?}: no such verb");
        assert!(!verb.has_subcommands() || words.len() <= 2 || words[2].starts_with('-'), "{text:?}: no such verb");
        for option in words.iter().filter_map(|word| word.strip_prefix("--")) {
            let known = verb.get_arguments().any(|argument| argument.get_long() == Some(option));
            assert!(known, "{text:?}: no option --{option}");
        }
        seen += 1;
    }
    assert!(seen > 40, "{seen}");
}
