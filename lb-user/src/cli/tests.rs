//! The command line as its callers meet it: arguments, words, exit codes.

use super::args::Cli;
use super::table;
use crate::admin::api::*;
use crate::admin::view;
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
        "bailey reload",
        "bailey completions bash",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
    for line in [
        "bailey run",
        "bailey pool weight p 10.0.0.1:80 0",
        "bailey pool weight p 10.0.0.1:80 257",
        "bailey pool add p 10.0.0.1",
        "bailey pool add a/b 10.0.0.1:80",
        "bailey flow 10.0.0.9:5000 10.0.0.1:443/udp",
        "bailey statu",
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
    let flow = FlowView { service: Some("web".into()), worker: Some(1), cpu: Some(3), hash: Some(7), slot: Some(7) };
    assert!(table::flow(&flow).contains("worker 1, CPU 3"));
}
