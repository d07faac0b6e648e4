//! The house is in order: what pages, dashboards and modules name is there.

use std::collections::BTreeSet;
use std::process::Command;

use lb_tests::docs::{documented_keys, documented_metrics, files, read, root};
use lb_tests::edge::check;
use lb_tests::need::find;

#[test]
fn every_module_opens_by_saying_what_it_is_for() {
    let bare: Vec<_> = files(".rs")
        .unwrap()
        .into_iter()
        .filter(|file| !read(file).unwrap().lines().find(|line| !line.is_empty()).is_some_and(|l| l.starts_with("//!")))
        .collect();
    assert!(bare.is_empty(), "modules that do not open with //!: {bare:?}");
}

#[test]
fn files_are_short_enough_to_be_read() {
    const LINES: usize = 400;
    let long: Vec<_> = files(".rs").unwrap().into_iter().filter(|f| read(f).unwrap().lines().count() > LINES).collect();
    assert!(long.is_empty(), "more than {LINES} lines: {long:?}");
}

#[test]
fn the_dashboard_can_be_imported() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("grafana/bailey.json").unwrap()).unwrap();
    assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 36));
    assert!(dashboard["uid"].is_string() && dashboard["title"].is_string());
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert!(variables.iter().any(|variable| variable["type"] == "datasource" && variable["query"] == "prometheus"));
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "panels share an id");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(
            panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()),
            "{} asks nothing",
            panel["title"]
        );
        let at = &panel["gridPos"];
        assert!(at["x"].as_u64().unwrap() + at["w"].as_u64().unwrap() <= 24, "{} is too wide", panel["title"]);
    }
}

#[test]
fn every_metric_of_dashboard_and_alerts_is_documented() {
    let documented = documented_metrics().unwrap();
    for file in ["grafana/bailey.json", "grafana/alerts.yml"] {
        let named = metric_names(&read(file).unwrap());
        assert!(named.len() > 5, "{file} names hardly any metric: {named:?}");
        for name in named {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let known = documented.contains_key(&name) || base.is_some_and(|base| documented.contains_key(base));
            assert!(known, "{file} names {name}, docs/metrics.md does not");
        }
    }
}

#[test]
fn every_documented_metric_stands_in_the_code() {
    let code: String = files(".rs")
        .unwrap()
        .into_iter()
        .filter(|file| file.starts_with(root().join("lb-user/src")))
        .map(|file| read(file).unwrap())
        .collect();
    for name in documented_metrics().unwrap().keys() {
        let short = name.trim_start_matches("bailey_");
        assert!(code.contains(name.as_str()) || code.contains(&format!("\"{short}\"")), "{name} is not in lb-user");
    }
}

#[test]
fn metric_names_follow_prometheus_conventions() {
    for (name, metric) in documented_metrics().unwrap() {
        assert_eq!(metric.kind == "counter", name.ends_with("_total"), "{name} is a {}", metric.kind);
        assert!(!name.contains("milli") && !name.ends_with("_ms"), "{name} is not in a base unit");
    }
}

#[test]
fn alert_rules_are_valid() {
    let Some(promtool) = find("promtool") else { return };
    let out = Command::new(promtool).args(["check", "rules"]).arg(root().join("grafana/alerts.yml")).output().unwrap();
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
}

/// Every documented key is known to the program: it may complain about our value for it, never about the key.
#[test]
fn the_program_knows_every_documented_key() {
    let folder = lb_tests::lab::folder().unwrap();
    let keys = documented_keys().unwrap();
    assert!(keys.len() > 40, "docs/config.md was not read: {keys:?}");
    for (section, key) in &keys {
        let header = section.replace("NAME", "x");
        let list = ["routes", "sni"].iter().any(|table| header.ends_with(table));
        // A table of a route stands within one.
        let within = if header.starts_with("service.x.routes.") { "[[service.x.routes]]\n" } else { "" };
        let header = if list { format!("[[{header}]]") } else { format!("{within}[{header}]") };
        let outcome = check(folder.path(), &format!("{header}\n{key} = {{}}\n")).unwrap();
        let said = outcome.stderr.clone() + &outcome.stdout;
        let unknown = said.lines().find(|line| line.to_lowercase().contains("unknown key"));
        assert!(unknown.is_none(), "[{section}] {key} is documented, but: {unknown:?}");
    }
    // The way unknown keys are reported, so that the check above can fail.
    let outcome = check(folder.path(), "[edge]\nnonsense = 1\n").unwrap();
    let said = outcome.stderr + &outcome.stdout;
    assert!(said.to_lowercase().contains("unknown key") && said.contains("nonsense"), "{said}");
}

fn metric_names(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !word(c)).filter(|part| part.starts_with("bailey_")).map(String::from).collect()
}
