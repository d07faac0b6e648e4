//! A real responder: what it says of clients' certificates, and of our own, when it answers and when it does not.

use anyhow::{Context, Result, ensure};
use lb_tests::edge::free_port;
use lb_tests::harness::{Test, with};
use lb_tests::here::Here;
use lb_tests::ocsp::{Responder, State};
use lb_tests::pki::{Authority, Identity, Order};
use lb_tests::programs::Said;
use lb_tests::wait::{PATIENCE, wait_ok};

use crate::site::{Site, failed};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("a_responder_decides_about_clients_as_the_config_says", &["openssl"], clients),
        with("our_own_certificate_is_stapled_also_after_a_restart_without_its_responder", &["openssl"], staples),
    ]
}

/// Three clients of one authority. The responder knows the first as good, the second as revoked, the third not at all.
fn responder(here: &Here, port: u16) -> Result<Responder> {
    let authority = Authority::new("Clients")?;
    authority.save(&here.file("clients.pem"))?;
    let url = format!("http://127.0.0.1:{port}/");
    let order = |name: &str| -> Result<Identity> {
        authority.order(here.folder(), name, &Order { responder: Some(&url), ..Order::client() })
    };
    let (good, revoked, _unknown) = (order("good")?, order("revoked")?, order("unknown")?);
    let mut responder = Responder::start(here.folder(), &authority, port)?;
    responder.set(&good, State::Good)?;
    responder.set(&revoked, State::Revoked)?;
    Ok(responder)
}

fn show(site: &Site, name: &str) -> Result<Said> {
    let file = |end: &str| site.here.file(&format!("{name}.{end}")).to_string_lossy().into_owned();
    site.here.s_client(site.at, &["-cert", &file("pem"), "-key", &file("key")])
}

fn clients() -> Result<()> {
    for (ocsp, answers, expected) in [
        ("optional", true, [("good", 200), ("revoked", 403), ("unknown", 200)]),
        ("required", true, [("good", 200), ("revoked", 403), ("unknown", 403)]),
        // Silence is as good as good, or as bad as bad.
        ("optional", false, [("good", 200), ("revoked", 200), ("unknown", 200)]),
        ("required", false, [("good", 403), ("revoked", 403), ("unknown", 403)]),
    ] {
        let rules =
            format!("[service.web.client_cert]\nmode = \"required\"\nca = \"clients.pem\"\nocsp = \"{ocsp}\"\n");
        let mut started = None;
        let port = free_port()?;
        let site = Site::new("", &rules, |here| {
            started = Some(responder(here, port)?);
            Ok(())
        })?;
        if !answers {
            started.as_mut().context("a responder")?.stop()?;
        }
        for (name, status) in expected {
            let said = show(&site, name)?;
            ensure!(said.status(status), "ocsp {ocsp}, answers {answers}, {name}: {}", said.text);
        }
        let scrape = site.edge.metrics()?;
        let fetched = |result| scrape.sum("bailey_ocsp_fetches_total", &[("use", "client"), ("result", result)]);
        let counts = ["good", "revoked", "unknown", "unavailable"].map(fetched);
        let told = if answers { [1.0, 1.0, 1.0, 0.0] } else { [0.0, 0.0, 0.0, 3.0] };
        ensure!(counts == told, "ocsp {ocsp}, answers {answers}: {counts:?}");
        // Once more: what the responder said is remembered.
        if answers {
            ensure!(show(&site, "good")?.status(200) && show(&site, "revoked")?.status(403));
            let again = site.edge.metrics()?.sum("bailey_ocsp_fetches_total", &[("use", "client")]);
            ensure!(again == 3.0, "asked {again} times");
        }
        ensure!(failed(&site.edge, "revoked")? == 0.0, "that is known only after the handshake");
    }
    Ok(())
}

fn staples() -> Result<()> {
    let port = free_port()?;
    let mut started = None;
    let more = "[certificate.own]\nchain = \"own.pem\"\nkey = \"own.key\"\nstapling = true\n";
    let mut site = Site::with_edge("state = \"state\"", "certificates = [\"own\", \"lab\"]", more, |here| {
        let url = format!("http://127.0.0.1:{port}/");
        let order = Order { subjects: &[lb_tests::lab::HOST], responder: Some(&url), ..Order::default() };
        let own = here.authority.order(here.folder(), "own", &order)?;
        // The issuer is needed to ask: it is sent along.
        let chain = std::fs::read_to_string(&own.chain)? + &here.authority.pem();
        std::fs::write(&own.chain, chain)?;
        let mut responder = Responder::start(here.folder(), &here.authority, port)?;
        responder.set(&own, State::Good)?;
        started = Some((responder, own));
        Ok(())
    })?;
    let (mut responder, own) = started.context("a responder")?;
    let stapled = |site: &Site| -> Result<()> {
        let said = site.here.s_client(site.at, &["-status"])?;
        ensure!(said.has("OCSP Response Status: successful") && said.has("Cert Status: good"), "{}", said.text);
        Ok(())
    };
    wait_ok("a staple", PATIENCE, || stapled(&site))?;
    let until = site.edge.metrics()?.sum("bailey_ocsp_staple_expiry_timestamp_seconds", &[("certificate", "own")]);
    ensure!(until > 0.0, "its end is no metric");
    responder.stop()?;
    site.edge.stop()?;
    site.edge = site.here.start(&site.config)?;
    wait_ok("the staple that was kept", PATIENCE, || stapled(&site))?;
    // Revoked: it is told, and nothing is stapled that says otherwise once more.
    site.edge.stop()?;
    std::fs::remove_dir_all(site.here.file("state"))?;
    responder.restart()?;
    responder.set(&own, State::Revoked)?;
    site.edge = site.here.start(&site.config)?;
    wait_ok("the word that it is revoked", PATIENCE, || {
        let status = site.edge.cli(&["status"])?;
        ensure!(status.stdout.contains("revoked"), "{status:?}");
        Ok(())
    })?;
    let said = site.here.s_client(site.at, &["-status"])?;
    ensure!(said.has("OCSP response: no response sent") && said.status(200), "{}", said.text);
    Ok(())
}
