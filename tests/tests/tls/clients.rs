//! Client certificates by openssl, curl and GnuTLS: who is let in, what backends are told, lists that change.

use std::path::Path;

use anyhow::{Result, ensure};
use lb_tests::backend::Backend;
use lb_tests::harness::{Test, with};
use lb_tests::here::{Here, free_address};
use lb_tests::lab::HOST;
use lb_tests::netns::finish;
use lb_tests::pki::{Authority, Identity, Order};
use lb_tests::programs::{Said, curl, gnutls};
use lb_tests::wait::{PATIENCE, wait_ok};

use crate::site::{Site, web};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("client_certificates_good_expired_strange_revoked_and_none_by_every_mode", &["openssl"], modes),
        with("a_backend_is_told_of_the_certificate_in_every_form_and_nobody_can_forge_it", &["openssl", "curl"], told),
        with("curl_and_gnutls_show_their_certificates", &["curl", "gnutls-cli"], others),
        with("a_list_that_changes_on_disk_revokes_without_a_restart", &["openssl"], list_changes),
        with("a_list_past_its_end_counts_as_the_config_says", &["openssl"], list_expired),
        with("rules_by_name_cannot_be_walked_around_by_another_host", &["openssl", "curl"], by_name),
    ]
}

/// Authorities of clients, and certificates of all kinds, as files: `clients.pem` (root), `issuing.pem` (what good
/// clients send besides their own), `clients.crl`.
pub(crate) struct Clients {
    pub(crate) issuing: Authority,
    pub(crate) good: Identity,
    pub(crate) revoked: Identity,
}

impl Clients {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let root = Authority::new("Clients")?;
        root.save(&folder.join("clients.pem"))?;
        let issuing = root.below("Clients issuing")?;
        issuing.save(&folder.join("issuing.pem"))?;
        let subjects = ["client.test", "10.1.2.3"];
        let good = issuing.order(folder, "good", &Order { subjects: &subjects, ..Order::client() })?;
        issuing.order(folder, "expired", &Order { days: (-20, -10), ..Order::client() })?;
        let revoked = issuing.order(folder, "revoked", &Order::client())?;
        Authority::new("Strangers")?.order(folder, "stranger", &Order::client())?;
        let clients = Self { issuing, good, revoked };
        clients.revoke(folder, &[&clients.revoked.serial], 30)?;
        Ok(clients)
    }

    fn revoke(&self, folder: &Path, serials: &[&[u8]], until: i32) -> Result<()> {
        let new = folder.join("clients.crl.new");
        std::fs::write(&new, self.issuing.revoke(serials, until)?)?;
        Ok(std::fs::rename(new, folder.join("clients.crl"))?)
    }
}

/// Arguments of s_client for the certificate `name` of a folder, or none.
pub(crate) fn shows(folder: &Path, name: &str) -> Vec<String> {
    if name == "none" {
        return Vec::new();
    }
    let file = |name: &str| folder.join(name).display().to_string();
    let words =
        [("-cert", format!("{name}.pem")), ("-key", format!("{name}.key")), ("-cert_chain", "issuing.pem".into())];
    words.into_iter().flat_map(|(option, name)| [option.to_string(), file(&name)]).collect()
}

/// A GET with this certificate.
pub(crate) fn get(here: &Here, at: std::net::SocketAddr, name: &str, more: &[&str]) -> Result<Said> {
    let shown = shows(here.folder(), name);
    let words: Vec<&str> = shown.iter().map(String::as_str).chain(more.iter().copied()).collect();
    here.s_client(at, &words)
}

const HEADERS: &str = "client_cert_headers = { \"x-verify\" = \"verify\", \"x-subject\" = \"subject\" }\n";

fn modes() -> Result<()> {
    let (here, backend) = (Here::new()?, Backend::start_here("app")?);
    Clients::new(here.folder())?;
    let mut config = here.head("");
    let mut services = Vec::new();
    for mode in ["optional", "optional-any", "required"] {
        let at = free_address()?;
        let service = web(at, &backend, HEADERS).replace("service.web", &format!("service.{mode}"));
        let service =
            if services.is_empty() { service } else { service[service.find("[service").unwrap_or(0)..].into() };
        config += &service;
        config += &format!(
            "[service.{mode}.client_cert]\nmode = \"{mode}\"\nca = \"clients.pem\"\ncrls = [\"clients.crl\"]\n"
        );
        services.push((mode, at));
    }
    let edge = here.start(&config)?;
    let certificates = [
        ("none", "NONE", ""),
        ("good", "SUCCESS", ""),
        ("expired", "FAILED:expired", "certificate expired"),
        ("stranger", "FAILED:unknown_ca", "unknown ca"),
        ("revoked", "FAILED:revoked", "certificate revoked"),
    ];
    for version in ["-tls1_2", "-tls1_3"] {
        for (mode, at) in &services {
            for (name, verify, alert) in certificates {
                let said = get(&here, *at, name, &[version])?;
                let case = format!("{mode} {version} {name}: {}", said.text);
                if *mode == "required" && name != "good" {
                    // TLS 1.2 has no word for a certificate that is missing.
                    ensure!(!said.status(200) && said.has("alert") && said.has(alert), "{case}");
                    continue;
                }
                ensure!(said.status(200), "{case}");
                let seen = backend.seen().pop().map(|seen| seen.headers).unwrap_or_default();
                let bad = !["good", "none"].contains(&name);
                let told = if *mode == "optional" && bad { "NONE" } else { verify };
                ensure!(seen["x-verify"] == told, "{case}\n{seen:?}");
                let subject = seen.get("x-subject").and_then(|value| value.to_str().ok()).unwrap_or_default();
                let shown = name == "good" || *mode == "optional-any" && bad;
                ensure!(subject == if shown { format!("CN={name}") } else { String::new() }, "{case}\n{seen:?}");
            }
        }
    }
    let scrape = edge.metrics()?;
    for (mode, _) in &services {
        for result in ["none", "verified", "expired", "unknown_ca", "revoked"] {
            let count = scrape.sum("bailey_tls_client_certs_total", &[("service", mode), ("result", result)]);
            ensure!(count == 2.0, "{mode} {result}: {count}");
        }
    }
    for reason in ["client_cert_missing", "expired", "unknown_ca", "revoked"] {
        let labels = [("service", "required"), ("reason", reason)];
        ensure!(
            scrape.sum("bailey_tls_handshake_failures_total", &labels) == 2.0,
            "{}",
            crate::site::failures(&scrape)
        );
    }
    Ok(())
}

fn told() -> Result<()> {
    let headers = "client_cert_headers = { \"NSClientCert\" = \"pem\", \"x-escaped\" = \"pem-urlencoded\", \
                   \"client-cert\" = \"rfc9440\", \"client-cert-chain\" = \"rfc9440-chain\", \"x-subject\" = \"subject\", \
                   \"x-issuer\" = \"issuer\", \"x-serial\" = \"serial\", \"x-sha256\" = \"fingerprint\", \
                   \"x-sha1\" = \"fingerprint-sha1\", \"x-from\" = \"not-before\", \"x-until\" = \"not-after\", \
                   \"x-san\" = \"san\", \"x-verify\" = \"verify\" }\n";
    let more = "[[service.web.routes]]\npath = \"/quiet\"\npool = \"app\"\nclient_cert_headers = {}\n\
                [service.web.client_cert]\nmode = \"optional\"\nca = [\"clients.pem\"]\n";
    let site = Site::new(headers, more, |here| Clients::new(here.folder()).map(drop))?;
    let folder = site.here.folder();
    ensure!(get(&site.here, site.at, "good", &[])?.status(200));
    let seen = site.seen()?.headers;
    let header = |name: &str| seen.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_string();
    let openssl = |words: &str| -> Result<String> {
        Ok(finish(std::process::Command::new("openssl").args(words.split(' ')).current_dir(folder))?.trim().into())
    };
    let value = |text: String| -> String { text.split_once('=').map(|(_, value)| value.into()).unwrap_or_default() };
    let pem = openssl("x509 -in good.pem")?;
    ensure!(header("nsclientcert") == pem.replace('\n', " "), "{}", header("nsclientcert"));
    let body = |pem: &str| -> String { pem.lines().filter(|line| !line.starts_with("---")).collect() };
    ensure!(header("client-cert") == format!(":{}:", body(&pem)), "{}", header("client-cert"));
    let issuing = openssl("x509 -in issuing.pem")?;
    ensure!(header("client-cert-chain") == format!(":{}:", body(&issuing)), "{}", header("client-cert-chain"));
    let fingerprint = |digest: &str| -> Result<String> {
        Ok(value(openssl(&format!("x509 -in good.pem -noout -fingerprint -{digest}"))?).replace(':', "").to_lowercase())
    };
    ensure!(header("x-sha256") == fingerprint("sha256")? && header("x-sha1") == fingerprint("sha1")?);
    ensure!(header("x-serial") == value(openssl("x509 -in good.pem -noout -serial")?), "{}", header("x-serial"));
    ensure!(header("x-subject") == "CN=good" && header("x-issuer") == "CN=Clients issuing", "{seen:?}");
    ensure!(header("x-san") == "DNS:client.test, IP:10.1.2.3" && header("x-verify") == "SUCCESS", "{seen:?}");
    let dates = openssl("x509 -in good.pem -noout -dates -dateopt iso_8601")?;
    for (name, line) in [("x-from", "notBefore="), ("x-until", "notAfter=")] {
        let date = dates.lines().find_map(|l| l.strip_prefix(line)).unwrap_or_default().replace(' ', "T");
        ensure!(header(name) == date, "{name}: {} and not {date}", header(name));
    }
    ensure!(header("x-escaped").starts_with("-----BEGIN%20CERTIFICATE-----%0A"), "{}", header("x-escaped"));
    // Forged, with a certificate and without, where the route tells and where it does not.
    let url = |path: &str| format!("https://{HOST}:{}{path}", site.at.port());
    let forged = ["-H", "NSClientCert: forged", "-H", "client-cert: :forged:", "-H", "X-VERIFY: SUCCESS"];
    for option in ["--http1.1", "--http2"] {
        for path in ["/", "/quiet"] {
            let url = url(path);
            let words = [&[option, &url], &forged[..]].concat();
            ensure!(curl(site.at, &[HOST], &site.here.ca(), &words)?.status(200));
            let seen = site.seen()?.headers;
            ensure!(seen.get("nsclientcert").is_none() && seen.get("client-cert").is_none(), "{seen:?}");
            let verify = seen.get("x-verify").and_then(|value| value.to_str().ok());
            ensure!(verify == if path == "/" { Some("NONE") } else { None }, "{option} {path}: {seen:?}");
        }
    }
    Ok(())
}

fn others() -> Result<()> {
    let more = "[service.web.client_cert]\nmode = \"required\"\nca = \"clients.pem\"\n";
    let site = Site::new(HEADERS, more, |here| Clients::new(here.folder()).map(drop))?;
    let file = |name: &str| site.here.file(name).display().to_string();
    let (pem, key) = (file("good.pem"), file("good.key"));
    let url = format!("https://{HOST}:{}/", site.at.port());
    for option in ["--http1.1", "--http2"] {
        let said = curl(site.at, &[HOST], &site.here.ca(), &[option, "--cert", &pem, "--key", &key, &url])?;
        ensure!(said.status(200) && site.seen()?.headers["x-subject"] == "CN=good", "{}", said.text);
        ensure!(curl(site.at, &[HOST], &site.here.ca(), &[option, &url])?.code != Some(0));
    }
    for priority in ["NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3"] {
        let own = [&format!("--x509certfile={pem}")[..], &format!("--x509keyfile={key}")];
        let said = gnutls(site.at, HOST, &site.here.ca(), priority, &own)?;
        ensure!(said.status(200), "{priority}: {}", said.text);
        ensure!(!gnutls(site.at, HOST, &site.here.ca(), priority, &[])?.status(200), "{priority}");
    }
    ensure!(site.backend.count() == 4);
    Ok(())
}

fn list_changes() -> Result<()> {
    let more = "[tls]\nwatch = \"1s\"\n\
                [service.web.client_cert]\nmode = \"required\"\nca = \"clients.pem\"\ncrls = [\"clients.crl\"]\n";
    let mut made = None;
    let site = Site::new(HEADERS, more, |here| {
        made = Some(Clients::new(here.folder())?);
        Ok(())
    })?;
    let clients = made.ok_or_else(|| anyhow::anyhow!("no clients"))?;
    let session = site.here.file("session").display().to_string();
    ensure!(get(&site.here, site.at, "good", &["-sess_out", &session])?.status(200));
    let again = get(&site.here, site.at, "good", &["-sess_in", &session, "-sess_out", &session])?;
    ensure!(again.has("Reused, TLSv1.3") && again.status(200), "{}", again.text);
    clients.revoke(site.here.folder(), &[&clients.good.serial], 30)?;
    wait_ok("the list to be taken", PATIENCE, || {
        let said = get(&site.here, site.at, "good", &[])?;
        ensure!(!said.status(200) && said.has("certificate revoked"), "{}", said.text);
        Ok(())
    })?;
    let resumed = get(&site.here, site.at, "good", &["-sess_in", &session])?;
    ensure!(!resumed.status(200) && !resumed.has("Reused"), "a session outlived its certificate: {}", resumed.text);
    // Who was on the old list and is not on the new one comes in again.
    ensure!(get(&site.here, site.at, "revoked", &[])?.status(200));
    // A list that cannot be read: the last good one holds.
    std::fs::write(site.here.file("clients.crl"), "-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n")?;
    let outcome = site.edge.cli(&["cert", "reload"])?;
    ensure!(outcome.code == Some(1) && (outcome.stdout + &outcome.stderr).contains("clients.crl"));
    ensure!(!get(&site.here, site.at, "good", &[])?.status(200));
    clients.revoke(site.here.folder(), &[], 30)?;
    site.edge.done(&["cert", "reload"])?;
    ensure!(get(&site.here, site.at, "good", &[])?.status(200));
    Ok(())
}

fn list_expired() -> Result<()> {
    for (word, served) in [("deny", false), ("allow", true)] {
        let more = format!(
            "[service.web.client_cert]\nmode = \"required\"\nca = \"clients.pem\"\ncrls = [\"clients.crl\"]\n\
             expired_crl = \"{word}\"\n"
        );
        let site = Site::new("", &more, |here| {
            let clients = Clients::new(here.folder())?;
            clients.revoke(here.folder(), &[&clients.revoked.serial], -1)
        })?;
        let said = get(&site.here, site.at, "good", &[])?;
        ensure!(said.status(200) == served, "{word}: {}", said.text);
        ensure!(!get(&site.here, site.at, "revoked", &[])?.status(200), "{word}: revoked by a list past its end");
        let counted = if served { 0.0 } else { 2.0 };
        ensure!(crate::site::failed(&site.edge, "crl_expired")? == counted);
    }
    Ok(())
}

fn by_name() -> Result<()> {
    let more = "[service.web.client_cert]\nmode = \"required\"\nca = \"clients.pem\"\n\
                [[service.web.sni]]\nnames = [\"open.bailey.test\"]\nclient_cert = { mode = \"off\" }\n";
    let site = Site::new(HEADERS, more, |here| Clients::new(here.folder()).map(drop))?;
    let (open, ca) = ("open.bailey.test", site.here.ca());
    let url = |host: &str, path: &str| format!("https://{host}:{}{path}", site.at.port());
    ensure!(curl(site.at, &[HOST], &ca, &[&url(HOST, "/")])?.code != Some(0), "no certificate, and served");
    for option in ["--http1.1", "--http2"] {
        let said = curl(site.at, &[open], &ca, &[option, &url(open, "/")])?;
        ensure!(said.status(200), "{}", said.text);
        // The name that asks for nothing in SNI, the one that asks for a certificate in Host.
        let said = curl(site.at, &[open], &ca, &[option, "-H", &format!("Host: {HOST}"), &url(open, "/")])?;
        ensure!(said.status(421), "{option}: {}", said.text);
    }
    ensure!(site.backend.count() == 2);
    let rejected =
        site.edge.metrics()?.sum("bailey_http_rejected_total", &[("service", "web"), ("reason", "misdirected")]);
    ensure!(rejected == 2.0, "counted {rejected}");
    Ok(())
}
