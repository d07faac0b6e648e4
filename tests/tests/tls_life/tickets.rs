//! Sessions that go on elsewhere, and those that must not: over worker threads, over edges with keys in common, through
//! rotations of keys, and never from one rule for clients' certificates to another.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lb_tests::harness::{Test, with};
use lb_tests::pki::{Authority, Order};
use lb_tests::programs::Said;
use ring::rand::{SecureRandom, SystemRandom};

use crate::site::Site;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("a_session_goes_on_at_every_worker_in_both_versions", &["openssl"], workers),
        with("edges_with_keys_in_common_go_on_with_each_others_sessions_through_rotations", &["openssl"], edges),
        with("no_session_passes_from_one_rule_for_client_certificates_to_another", &["openssl"], rules),
    ]
}

const KEYS: &str = "[tls]\nticket_keys = \"tickets.keys\"\nwatch = \"0s\"\n";

fn resumed(said: &Said) -> bool {
    said.has("Reused, TLSv1")
}

/// A full handshake whose session is kept in `session`.
fn begin(site: &Site, session: &Path, more: &[&str]) -> Result<()> {
    let file = session.to_string_lossy();
    let said = site.here.s_client(site.at, &[&["-sess_out", &file], more].concat())?;
    ensure!(said.has("New, TLSv1") && said.status(200), "{}", said.text);
    Ok(())
}

/// A handshake that offers `session`.
fn go_on(site: &Site, session: &Path, more: &[&str]) -> Result<Said> {
    site.here.s_client(site.at, &[&["-sess_in", &session.to_string_lossy()], more].concat())
}

fn workers() -> Result<()> {
    let site = Site::new("", "", |_| Ok(()))?;
    let session = site.here.file("session");
    let threads = site.edge.json(&["status"])?["worker"]["threads"].as_array().context("threads")?.len();
    for version in ["-tls1_2", "-tls1_3"] {
        begin(&site, &session, &[version])?;
        let mut met = BTreeSet::new();
        // The kernel spreads connections over the listeners; bounded, should it not.
        for _ in 0..60 {
            let said = go_on(&site, &session, &[version])?;
            ensure!(resumed(&said) && said.status(200), "{version}: {}", said.text);
            let line = said.text.lines().find(|line| line.starts_with("x-served-by: ")).context("no worker named")?;
            met.insert(line.split(';').next().unwrap_or_default().to_owned());
            if met.len() == threads {
                break;
            }
        }
        ensure!(met.len() == threads, "{version}: {met:?} of {threads} threads");
    }
    let sessions = site.edge.metrics()?.sum("bailey_tls_sessions_total", &[("service", "web"), ("session", "resumed")]);
    ensure!(sessions >= 2.0 * threads as f64, "{sessions}");
    Ok(())
}

/// A line of a ticket key file: what `openssl rand -base64 48` says.
fn key() -> Result<String> {
    use base64::Engine as _;
    let mut bytes = [0; 48];
    SystemRandom::new().fill(&mut bytes).ok().context("no random numbers")?;
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

fn write(folder: &Path, keys: &[String]) -> Result<()> {
    let file = folder.join("tickets.keys");
    std::fs::write(&file, keys.join("\n") + "\n")?;
    Ok(std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600))?)
}

fn edges() -> Result<()> {
    let keys = (0..6).map(|_| key()).collect::<Result<Vec<_>>>()?;
    let edge = || Site::new("", KEYS, |here| write(here.folder(), &keys[..3]));
    let (one, two) = (edge()?, edge()?);
    let alone = Site::new("", "", |_| Ok(()))?;
    let session = one.here.file("session");
    begin(&one, &session, &[])?;
    ensure!(resumed(&go_on(&two, &session, &[])?));
    ensure!(!resumed(&go_on(&alone, &session, &[])?), "an edge with keys of its own");
    // The newest key comes to the first edge, then to the second: in between, each opens what the other made.
    for first in 1..3 {
        let newer = &keys[first..first + 3];
        write(one.here.folder(), newer)?;
        one.edge.done(&["cert", "reload"])?;
        let between = one.here.file("between");
        begin(&one, &between, &[])?;
        ensure!(resumed(&go_on(&two, &between, &[])?), "rotation {first}: made by the newer, opened by the older");
        begin(&two, &between, &[])?;
        ensure!(resumed(&go_on(&one, &between, &[])?), "rotation {first}: made by the older, opened by the newer");
        write(two.here.folder(), newer)?;
        two.edge.done(&["cert", "reload"])?;
        let lives = first < 2;
        let said = go_on(&two, &session, &[])?;
        ensure!(resumed(&said) == lives, "rotation {first}: the first session lives {lives}: {}", said.text);
    }
    // A bad file is no reason to forget the good keys.
    begin(&two, &session, &[])?;
    write(two.here.folder(), &["not base64!".into()])?;
    let outcome = two.edge.cli(&["cert", "reload"])?;
    let said = outcome.stdout + &outcome.stderr;
    ensure!(outcome.code == Some(1) && said.contains("tickets.keys"), "{said}");
    ensure!(!said.contains(&keys[2]), "a key is told");
    ensure!(resumed(&go_on(&two, &session, &[])?));
    Ok(())
}

fn rules() -> Result<()> {
    let keys = (0..3).map(|_| key()).collect::<Result<Vec<_>>>()?;
    let site = |mode: &str| {
        let table = format!("[service.web.client_cert]\nmode = \"{mode}\"\n");
        let rules = if mode == "off" { table } else { table + "ca = \"clients.pem\"\ncrls = \"clients.crl\"\n" };
        Site::new("", &format!("{rules}{KEYS}"), |here| {
            write(here.folder(), &keys)?;
            let clients = Authority::new("Clients")?;
            clients.save(&here.file("clients.pem"))?;
            clients.order(here.folder(), "client", &Order::client())?;
            std::fs::write(here.file("clients.crl"), clients.revoke(&[&[7]], 30)?)?;
            Ok(std::fs::write(here.file("clients.crl.next"), clients.revoke(&[&[8]], 30)?)?)
        })
    };
    let (open, asks) = (site("off")?, site("required")?);
    let session = open.here.file("session");
    begin(&open, &session, &[])?;
    ensure!(resumed(&go_on(&open, &session, &[])?));
    // The same keys, the same name: but a certificate is required here.
    let said = go_on(&asks, &session, &[])?;
    ensure!(!resumed(&said) && !said.status(200), "{}", said.text);
    let folder = asks.here.folder();
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (certificate, own_key) = (file("client.pem"), file("client.key"));
    let shows = ["-cert", certificate.as_str(), "-key", &own_key];
    let session = asks.here.file("session");
    begin(&asks, &session, &shows)?;
    ensure!(resumed(&go_on(&asks, &session, &shows)?));
    ensure!(!resumed(&go_on(&open, &session, &[])?), "the other way round");
    // The list changes: whoever it names, older sessions have not been looked up in it.
    std::fs::rename(folder.join("clients.crl.next"), folder.join("clients.crl"))?;
    asks.edge.done(&["cert", "reload"])?;
    let said = go_on(&asks, &session, &shows)?;
    ensure!(!resumed(&said) && said.status(200), "{}", said.text);
    Ok(())
}
