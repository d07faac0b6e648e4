//! Keys stay where they belong: in the worker's memory, in files that others cannot read, and in no log.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use anyhow::{Context, Result, ensure};
use lb_tests::harness::{Test, with};
use lb_tests::here::Here;
use lb_tests::lab::HOST;

use crate::site::Site;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("no_key_is_in_any_log_or_answer_and_no_core_of_the_worker_is_written", &["openssl"], nowhere),
        with("a_key_that_others_may_read_is_warned_of", &["openssl"], readable),
    ]
}

/// Parts of the private keys in a folder, in the forms in which they could be written somewhere.
fn traces(here: &Here, names: &[&str]) -> Result<Vec<String>> {
    let mut traces = Vec::new();
    for name in names {
        let pem = std::fs::read_to_string(here.file(name))?;
        let body: Vec<&str> = pem.lines().filter(|line| !line.starts_with("---")).collect();
        // The first line of PKCS#8 is the same for every key of a kind.
        let secret = *body.get(1).with_context(|| format!("{name} is short"))?;
        traces.push(secret[..24].to_string());
        let der = lb_tests::pki::Identity { key: here.file(name), ..here.identity.clone() }.private_key()?;
        let bytes = &der.secret_der()[40..60];
        traces.push(lb_tests::backend::hex(bytes));
        // A list of bytes, as Rust's `{:?}` writes it.
        traces.push(bytes.iter().take(8).map(u8::to_string).collect::<Vec<_>>().join(", "));
    }
    Ok(traces)
}

fn nowhere() -> Result<()> {
    let more = "[tls]\nticket_keys = \"tickets.keys\"\n";
    let mut site = Site::with_edge("log = \"trace\"", "", more, |here| {
        std::fs::write(
            here.file("tickets.keys"),
            "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0ISEh\n",
        )?;
        Ok(std::fs::set_permissions(here.file("tickets.keys"), PermissionsExt::from_mode(0o600))?)
    })?;
    ensure!(site.here.s_client(site.at, &[])?.status(200));
    site.here.authority.issue(site.here.folder(), "next", &[HOST])?;
    let mut secrets = traces(&site.here, &["edge.key", "next.key"])?;
    secrets.push("c2VjcmV0IHNlY3JldCBz".into());
    secrets.push("secret secret".into());
    for end in ["pem", "key"] {
        std::fs::rename(site.here.file(&format!("next.{end}")), site.here.file(&format!("edge.{end}")))?;
    }
    site.edge.done(&["cert", "reload"])?;
    let mut said = String::new();
    for words in [&["cert", "list", "--json"][..], &["cert", "show", "lab", "--json"], &["status", "--json"]] {
        said += &site.edge.done(words)?;
    }
    // An error about a key quotes none of it either.
    let key = std::fs::read_to_string(site.here.file("edge.key"))?;
    std::fs::write(site.here.file("edge.key"), &key[..key.len() / 2])?;
    let refused = site.edge.cli(&["cert", "reload"])?;
    ensure!(refused.code == Some(1));
    said += &(refused.stdout + &refused.stderr);
    let worker = site.edge.worker().context("no worker")?;
    let limits = std::fs::read_to_string(format!("/proc/{worker}/limits"))?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).context("no limit of cores")?;
    ensure!(core.split_whitespace().filter(|word| *word == "0").count() == 2, "{core}");
    // What may not be dumped may not be traced either, and proc(5) gives its files to root.
    let owner = std::fs::metadata(format!("/proc/{worker}/mem"))?.uid();
    ensure!(owner == 0, "the worker's memory belongs to user {owner}");
    site.edge.stop()?;
    said += &site.edge.log();
    ensure!(said.contains("worker serves") && said.contains("CN=edge"), "hardly anything was said: {said}");
    for secret in secrets {
        ensure!(!said.contains(&secret), "{secret} is somewhere in what was said");
    }
    Ok(())
}

fn readable() -> Result<()> {
    let site = Site::new("", "", |_| Ok(()))?;
    for (mode, warned) in [(0o600, false), (0o400, false), (0o604, true), (0o644, true)] {
        std::fs::set_permissions(site.here.file("edge.key"), PermissionsExt::from_mode(mode))?;
        let checked = site.here.check(&site.config)?;
        let text = checked.stdout + &checked.stderr;
        let warning = text.contains("chmod");
        ensure!(checked.code == Some(0) && warning == warned, "{mode:o}: {text}");
        ensure!(!warned || text.contains("edge.key"), "{mode:o}: {text}");
    }
    Ok(())
}
