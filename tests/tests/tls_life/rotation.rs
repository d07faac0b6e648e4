//! Certificates that change on disk: under load, by themselves and when told, and when the new one is bad.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use anyhow::{Context, Result, ensure};
use lb_tests::client::{Protocol, Target};
use lb_tests::edge::Edge;
use lb_tests::harness::{Test, with};
use lb_tests::lab::HOST;
use lb_tests::netns::runtime;
use lb_tests::programs::run_for;
use lb_tests::wait::{PATIENCE, wait_ok};

use crate::site::{Site, subject_is};

/// Certificates that one after the other take the first one's place.
const RENEWALS: u32 = 6;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("certificates_change_under_load_without_a_failed_request", &["h2load", "openssl"], under_load),
        with("a_changed_file_is_seen_and_a_bad_one_leaves_the_last_good_one", &["openssl"], bad_file),
    ]
}

/// Put another certificate in the place of `edge.pem` and `edge.key`, as renewal tools do: written beside, moved over.
fn renew(site: &Site, name: &str) -> Result<()> {
    let here = &site.here;
    here.authority.issue(here.folder(), name, &[HOST, "*.bailey.test", "127.0.0.1"])?;
    for end in ["key", "pem"] {
        std::fs::rename(here.file(&format!("{name}.{end}")), here.file(&format!("edge.{end}")))?;
    }
    Ok(())
}

fn under_load() -> Result<()> {
    let site = Site::new("", "[tls]\nwatch = \"0s\"\n", |_| Ok(()))?;
    let (done, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let target = site.here.target(site.at, HOST)?;
    std::thread::scope(|scope| -> Result<()> {
        // New connections all the time, each with a full handshake.
        let fresh = scope.spawn(|| fresh_connections(&target, &done, &asked));
        // Connections that stay: bounded in requests, and in time by the helper.
        let url = format!("https://{}/", site.at);
        let kept = scope.spawn(move || run_for(60, "h2load", &["-n", "60000", "-c", "8", "-m", "4", &url], ""));
        let renewed = (0..RENEWALS).try_for_each(|number| -> Result<()> {
            let before = asked.load(SeqCst);
            renew(&site, &format!("renewed{number}"))?;
            let told = site.edge.done(&["cert", "reload"])?;
            ensure!(told.contains("certificate lab"), "{told}");
            wait_ok("requests between two renewals", PATIENCE, || {
                ensure!(asked.load(SeqCst) >= before + 10, "too few new connections");
                Ok(())
            })
        });
        let load = kept.join().map_err(|_| anyhow::anyhow!("h2load's thread"));
        done.store(true, SeqCst);
        fresh.join().map_err(|_| anyhow::anyhow!("the clients' thread"))??;
        renewed?;
        let said = load??;
        ensure!(said.has("60000 succeeded, 0 failed, 0 errored, 0 timeout"), "{}", said.text);
        Ok(())
    })?;
    let said = site.here.s_client(site.at, &[])?;
    ensure!(subject_is(&said, &format!("renewed{}", RENEWALS - 1)), "{}", said.text);
    Ok(())
}

fn fresh_connections(target: &Target, done: &AtomicBool, asked: &AtomicU64) -> Result<()> {
    // Bounded, should nobody say that it is done.
    for _ in 0..20_000 {
        if done.load(SeqCst) {
            return Ok(());
        }
        let reply = runtime()?.block_on(target.get(Protocol::Http1, "/"))?;
        ensure!(reply.status == 200, "{}", reply.status);
        asked.fetch_add(1, SeqCst);
    }
    Ok(())
}

fn bad_file() -> Result<()> {
    let site = Site::new("", "[tls]\nwatch = \"1s\"\n", |_| Ok(()))?;
    let served = |name: &str| -> Result<()> {
        let said = site.here.s_client(site.at, &[])?;
        ensure!(subject_is(&said, name) && said.status(200), "{}", said.text);
        Ok(())
    };
    // Nobody says anything: the files are looked at.
    renew(&site, "seen")?;
    wait_ok("the new certificate", PATIENCE, || served("seen"))?;
    // Half of a file, and another one's key.
    let good = std::fs::read_to_string(site.here.file("edge.pem"))?;
    std::fs::write(site.here.file("edge.pem"), &good[..good.len() / 2])?;
    let stranger = site.here.authority.issue(site.here.folder(), "stranger", &[HOST])?;
    let told = |what: &str| -> Result<()> {
        let outcome = site.edge.cli(&["cert", "reload"])?;
        let said = outcome.stdout + &outcome.stderr;
        ensure!(outcome.code == Some(1) && said.contains(what) && said.contains("bailey.toml:"), "{said}");
        served("seen")
    };
    told("edge.pem")?;
    std::fs::write(site.here.file("edge.pem"), &good)?;
    std::fs::copy(&stranger.key, site.here.file("edge.key"))?;
    told("edge.key")?;
    let status = site.edge.cli(&["status"])?;
    ensure!(status.code == Some(1) && status.stdout.contains("edge.key"), "{status:?}");
    let stale = |edge: &Edge<'_>| -> Result<f64> {
        Ok(edge.metrics()?.sum("bailey_certificate_stale", &[("certificate", "lab")]))
    };
    ensure!(stale(&site.edge)? == 1.0);
    // Mended: it goes on by itself.
    renew(&site, "mended")?;
    wait_ok("the mended certificate", PATIENCE, || served("mended"))?;
    ensure!(stale(&site.edge)? == 0.0);
    let listed = site.edge.json(&["cert", "list"])?;
    let first = listed.as_array().and_then(|list| list.first()).context("a certificate")?;
    ensure!(first["name"] == "lab", "{listed}");
    Ok(())
}
