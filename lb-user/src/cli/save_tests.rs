//! Saving into texts as people write them: what is left is as it was, and the text says what was in force.

use super::save_edit::edit;
use crate::admin::api::{BackendDifference, BackendNow, DiffView, RuleDifference};
use crate::config::{self, Config, Host};
use crate::reconcile::{Mark, Overlay, PoolChange};
use proptest::prelude::*;
use std::net::SocketAddr;
use std::path::Path;

fn diff() -> DiffView {
    DiffView {
        file: "/etc/bailey.toml".into(),
        digest: String::new(),
        kept: None,
        rows: vec![],
        backends: vec![],
        rules: vec![],
    }
}

fn backend(address: &str, in_file: bool, now: Option<(u16, Mark)>) -> BackendDifference {
    let now = now.map(|(weight, mark)| BackendNow { weight, mark });
    BackendDifference { pool: "web".into(), address: address.parse().unwrap(), in_file, now }
}

const FILE: &str = r#"# The shop.
[edge]
datapath = "sockets"   # for now

[pool.web]             # asked by all
balance = "round_robin"
backends = [
  "10.0.0.1:80",       # rack 1
  # The old one:
  "10.0.0.2:80",       # rack 2
  { address = "10.0.0.3:80", weight = 2 }, # rack 3
]

[pool.one]
backends = ["10.0.1.1:80", "10.0.1.2:80"]
"#;

#[test]
fn comments_and_order_stay() {
    let mut diff = diff();
    diff.backends = vec![
        backend("10.0.0.1:80", true, Some((5, Mark::Enabled))),
        backend("10.0.0.2:80", true, None),
        backend("10.0.0.3:80", true, Some((2, Mark::Disabled))),
        backend("10.0.0.4:80", false, Some((1, Mark::Enabled))),
        backend("10.0.0.5:80", false, Some((7, Mark::Draining))),
    ];
    let edited = edit(FILE, &diff).unwrap();
    assert_eq!(edited.left, Vec::<String>::new());
    let expected = FILE
        .replace("\"10.0.0.1:80\",  ", "{ address = \"10.0.0.1:80\", weight = 5 },  ")
        .replace("  # The old one:\n  \"10.0.0.2:80\",       # rack 2\n", "")
        .replace("weight = 2 }, # rack 3\n", "weight = 2, state = \"disabled\" }, # rack 3\n  \"10.0.0.4:80\",\n  { address = \"10.0.0.5:80\", weight = 7, state = \"draining\" },\n");
    assert_eq!(edited.text, expected);
}

#[test]
fn lists_of_one_line_stay_that() {
    let mut diff = diff();
    let of = |difference: BackendDifference| BackendDifference { pool: "one".into(), ..difference };
    diff.backends =
        vec![of(backend("10.0.1.1:80", true, None)), of(backend("10.0.1.9:80", false, Some((1, Mark::Enabled))))];
    let edited = edit(FILE, &diff).unwrap().text;
    assert!(edited.contains("backends = [\"10.0.1.2:80\", \"10.0.1.9:80\"]\n"), "{edited}");
    let empty = edit("[pool.one]\nbackends = []\n", &DiffView { backends: vec![diff.backends[1].clone()], ..diff });
    assert_eq!(empty.unwrap().text, "[pool.one]\nbackends = [\"10.0.1.9:80\"]\n");
}

#[test]
fn rules_go_where_they_belong_and_what_cannot_be_said_is_left() {
    let text =
        "[shield]\ndeny = [\n  \"192.0.2.0/24\", # them\n  \"198.51.100.0/24\",\n]\n\n[service.web]\nmode = \"http\"\n";
    let rule = |service: Option<&str>, network: &str, allow, for_a_time, in_file| RuleDifference {
        service: service.map(str::to_owned),
        network: network.parse().unwrap(),
        allow,
        for_a_time,
        in_file,
    };
    let mut diff = diff();
    diff.rules = vec![
        rule(None, "192.0.2.0/24", true, false, Some(false)),
        rule(None, "203.0.113.0/24", false, true, None),
        rule(None, "10.0.0.0/8", true, false, Some(false)),
        rule(Some("web"), "2001:db8::/32", false, false, None),
    ];
    let edited = edit(text, &diff).unwrap();
    assert_eq!(edited.left.len(), 2, "{:?}", edited.left);
    assert!(edited.left[0].contains("for a time") && edited.left[1].contains("deny_files"), "{:?}", edited.left);
    assert_eq!(
        edited.text,
        "[shield]\ndeny = [\n  \"198.51.100.0/24\",\n]\nallow = [\"192.0.2.0/24\"]\n\n[service.web]\nmode = \"http\"\n\n[service.web.shield]\ndeny = [\"2001:db8::/32\"]\n"
    );
}

fn parse(text: &str) -> Config {
    config::parse(text, Path::new("/nonexistent/bailey.toml"), &Host::this()).unwrap().config
}

/// The differences as the daemon tells them.
fn told(config: &Config, overlay: &Overlay) -> DiffView {
    let pool = config.pool("p").unwrap();
    let of = |address, in_file, now| BackendDifference { pool: "p".into(), address, in_file, now };
    let mut backends: Vec<_> = overlay.removed(pool).into_iter().map(|address| of(address, true, None)).collect();
    for one in overlay.effective(pool).into_iter().filter(|backend| backend.changed) {
        backends.push(of(one.address, one.in_file, Some(BackendNow { weight: one.weight, mark: one.mark })));
    }
    DiffView { backends, ..diff() }
}

proptest! {
    /// However a list is written: after a save the file says what was in force, and nothing differs any more.
    #[test]
    fn what_is_saved_is_what_was_in_force(
        file in prop::collection::btree_map(1u8..6, (1u16..4, any::<bool>(), any::<bool>()), 0..5),
        changes in prop::collection::vec((1u8..8, 0u8..6, 1u16..5), 0..8),
        lines in any::<bool>(),
        comma in any::<bool>(),
    ) {
        let entry = |(n, (weight, table, comment)): (&u8, &(u16, bool, bool))| {
            let value = match (table, weight) {
                (false, 1) => format!("\"10.0.0.{n}:80\""),
                _ => format!("{{ address = \"10.0.0.{n}:80\", weight = {weight} }}"),
            };
            (value, if *comment && lines { format!(" # backend {n}") } else { String::new() })
        };
        let entries: Vec<_> = file.iter().map(entry).collect();
        let (sep, end) = if lines { ("\n  ", "\n") } else { ("", "") };
        let mut list = String::new();
        for (index, (value, comment)) in entries.iter().enumerate() {
            let last = index + 1 == entries.len();
            list += &format!("{sep}{value}{}{comment}", if !last || comma { "," } else { "" });
        }
        let text = format!("[edge]\ndatapath = \"sockets\"\n[service.a]\nmode = \"http\"\naddresses = [\"127.0.0.1:8001\"]\npool = \"p\"\n[pool.p]\nbackends = [{list}{end}]\n");
        let config = parse(&text);
        let overlay = changes.iter().fold(Overlay::default(), |overlay, (n, what, weight)| {
            let change = match what {
                0 => PoolChange::Add { weight: Some(*weight) },
                1 => PoolChange::Remove,
                2 => PoolChange::Drain { seconds: None },
                3 => PoolChange::Disable,
                4 => PoolChange::Enable,
                _ => PoolChange::Weight { weight: *weight },
            };
            overlay.with(&config, "p", SocketAddr::from(([10, 0, 0, *n], 80)), change).unwrap_or(overlay)
        });
        let edited = edit(&text, &told(&config, &overlay)).unwrap();
        prop_assert!(edited.left.is_empty());
        let saved = parse(&edited.text);
        let in_force = |config: &Config, overlay: &Overlay| -> Vec<_> {
            let backends = overlay.effective(config.pool("p").unwrap());
            backends.into_iter().map(|one| (one.address, one.weight, one.mark)).collect()
        };
        prop_assert_eq!(in_force(&saved, &Overlay::default()), in_force(&config, &overlay));
        prop_assert_eq!(overlay.over(&saved), Overlay::default());
        // Comments are on whom they were on.
        for (n, (.., comment)) in &file {
            let kept = saved.pool("p").unwrap().backends.contains_key(&SocketAddr::from(([10, 0, 0, *n], 80)));
            if *comment && lines && kept && overlay.effective(config.pool("p").unwrap()).iter().any(|b| b.in_file && b.address == SocketAddr::from(([10, 0, 0, *n], 80))) {
                let line = edited.text.lines().find(|line| line.contains(&format!("10.0.0.{n}:80"))).unwrap_or_default();
                prop_assert!(line.contains(&format!("# backend {n}")), "{}", edited.text);
            }
        }
    }
}
