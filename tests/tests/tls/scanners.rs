//! testssl.sh and sslyze against the default policy with HSTS and a chain of an authority of our own: what SSL Labs asks
//! for an A+, asserted by their findings.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lb_tests::backend::Backend;
use lb_tests::edge::Edge;
use lb_tests::harness::{Test, with};
use lb_tests::here::{Here, free_address};
use lb_tests::lab::HOST;
use lb_tests::pki::{KeyKind, Order};
use lb_tests::programs::run_for;
use serde_json::Value;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("sslyze_finds_what_an_a_plus_asks_for", &["sslyze"], sslyze),
        with("testssl_finds_nothing_that_costs_an_a_plus", &["testssl", "openssl"], testssl),
    ]
}

struct Scanned {
    here: Here,
    /// With an ECDSA and an RSA certificate.
    both: SocketAddr,
    /// With the first alone.
    ecdsa: SocketAddr,
    _backend: Backend,
    _edge: Edge<'static>,
}

/// Certificates below an intermediate authority, the default policy, HSTS of a year.
fn site() -> Result<Scanned> {
    let (here, backend) = (Here::new()?, Backend::start_here("app")?);
    let (both, ecdsa) = (free_address()?, free_address()?);
    let issuing = here.authority.below("Bailey lab issuing")?;
    // Never asked: it is what a certificate of a public authority has.
    let order = Order { subjects: &[HOST], responder: Some("http://127.0.0.1:9/"), ..Order::default() };
    issuing.order(here.folder(), "ecdsa", &order)?;
    issuing.order(here.folder(), "rsa", &Order { key: KeyKind::Rsa, ..order })?;
    let service = |name: &str, at: SocketAddr, certificates: &str| {
        format!(
            "[service.{name}]\naddresses = [\"{at}\"]\nmode = \"https\"\npool = \"app\"\nhsts = true\n\
             certificates = [{certificates}]\n"
        )
    };
    let config = here.head("")
        + "[certificate.ecdsa]\nchain = \"ecdsa.pem\"\nkey = \"ecdsa.key\"\n\
           [certificate.rsa]\nchain = \"rsa.pem\"\nkey = \"rsa.key\"\n"
        + &service("both", both, "\"ecdsa\", \"rsa\"")
        + &service("ecdsa", ecdsa, "\"ecdsa\"")
        + &format!("[pool.app]\nbackends = [\"{}\"]\n", backend.address);
    let edge = here.start(&config)?;
    Ok(Scanned { here, both, ecdsa, _backend: backend, _edge: edge })
}

fn sslyze() -> Result<()> {
    let site = site()?;
    let (json, ca) = (site.here.file("sslyze.json").display().to_string(), site.here.ca().display().to_string());
    let target = format!("{HOST}:{}{{127.0.0.1}}", site.both.port());
    let what = ["--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3", "--elliptic_curves", "--reneg"];
    let more =
        ["--compression", "--heartbleed", "--openssl_ccs", "--robot", "--early_data", "--http_headers", "--certinfo"];
    let how = ["--json_out", &json, "--sni", HOST, "--certinfo_ca_file", &ca, "--mozilla_config", "disable", &target];
    let words = [&what[..], &more, &how].concat();
    let said = run_for(120, "sslyze", &words, "")?;
    ensure!(said.code == Some(0), "{}", said.text);
    let report: Value = serde_json::from_str(&without_giants(&std::fs::read_to_string(&json)?))?;
    let scan = &report["server_scan_results"][0]["scan_result"];
    ensure!(scan.is_object(), "{}", said.text);
    let found = |command: &str| -> Result<&Value> {
        let one = &scan[command];
        ensure!(one["status"] == "COMPLETED", "{command}: {one}");
        Ok(&one["result"])
    };
    let suites = |command: &str| -> Result<Vec<&str>> {
        let accepted = found(command)?["accepted_cipher_suites"].as_array().context("a list")?;
        Ok(accepted.iter().filter_map(|suite| suite["cipher_suite"]["name"].as_str()).collect())
    };
    for old in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"] {
        let accepted = suites(&format!("{old}_cipher_suites"))?;
        ensure!(accepted.is_empty(), "{old}: {accepted:?}");
    }
    let forward_and_aead = |name: &&str| {
        let ephemeral = name.starts_with("TLS_ECDHE_") || ["TLS_AES_", "TLS_CHA"].iter().any(|p| name.starts_with(p));
        ephemeral && (name.contains("_GCM_") || name.contains("_CHACHA20_POLY1305_"))
    };
    for (command, count) in [("tls_1_2_cipher_suites", 6), ("tls_1_3_cipher_suites", 3)] {
        let accepted = suites(command)?;
        ensure!(accepted.len() == count && accepted.iter().all(forward_and_aead), "{command}: {accepted:?}");
    }
    let curves: Vec<_> = found("elliptic_curves")?["supported_curves"]
        .as_array()
        .context("curves")?
        .iter()
        .filter_map(|curve| curve["name"].as_str())
        .collect();
    for curve in ["X25519", "secp256r1", "secp384r1"] {
        ensure!(curves.contains(&curve), "{curves:?}");
    }
    ensure!(curves.iter().all(|curve| ["X25519", "secp256r1", "secp384r1"].contains(curve)), "{curves:?}");
    let renegotiation = found("session_renegotiation")?;
    ensure!(renegotiation["supports_secure_renegotiation"] == true, "{renegotiation}");
    ensure!(renegotiation["is_vulnerable_to_client_renegotiation_dos"] == false, "{renegotiation}");
    ensure!(found("tls_compression")?["supports_compression"] == false);
    ensure!(found("heartbleed")?["is_vulnerable_to_heartbleed"] == false);
    ensure!(found("openssl_ccs_injection")?["is_vulnerable_to_ccs_injection"] == false);
    ensure!(
        found("robot")?["robot_result"] == "NOT_VULNERABLE_NO_ORACLE"
            || found("robot")?["robot_result"] == "NOT_VULNERABLE_RSA_NOT_SUPPORTED"
    );
    ensure!(found("tls_1_3_early_data")?["supports_early_data"] == false);
    let hsts = &found("http_headers")?["strict_transport_security_header"];
    ensure!(hsts["max_age"].as_u64().is_some_and(|seconds| seconds >= 31_536_000), "{hsts}");
    let deployments = found("certificate_info")?["certificate_deployments"].as_array().context("certificates")?;
    ensure!(deployments.len() == 2, "ECDSA and RSA: {} certificates", deployments.len());
    for deployment in deployments {
        ensure!(deployment["received_chain_has_valid_order"] == true, "{deployment}");
        ensure!(deployment["received_chain_contains_anchor_certificate"] != true, "the root is sent");
        ensure!(deployment["received_certificate_chain"].as_array().is_some_and(|chain| chain.len() == 2));
        ensure!(deployment["verified_chain_has_sha1_signature"] != true);
        let verified = deployment["path_validation_results"].as_array().context("validations")?;
        let ours = verified
            .iter()
            .filter(|result| result["trust_store"]["name"].as_str().is_some_and(|n| n.contains("Supplied")));
        ensure!(
            ours.clone().count() == 1 && ours.clone().all(|result| result["was_validation_successful"] == true),
            "{verified:?}"
        );
    }
    Ok(())
}

/// Findings of testssl.sh above INFO that are not the edge's, each with the reason.
const NOT_OURS: &[(&str, &str)] = &[
    ("engine_problem", "the scanner's own openssl has no GOST"),
    (
        "sessionresumption_ticket",
        "the scanner gives up when it is kept waiting; openssl asserts resumption in tls_life",
    ),
    ("DNS_CAArecord", "a name of .test is in no DNS"),
    ("OCSP_stapling", "the responder that the certificate names is not there"),
    ("security_headers", "Content-Security-Policy and the like are the application's"),
];

fn testssl() -> Result<()> {
    let site = site()?;
    let (json, ca) = (site.here.file("testssl.json").display().to_string(), site.here.ca().display().to_string());
    let target = format!("{HOST}:{}", site.ecdsa.port());
    let openssl = lb_tests::need::find("openssl").context("openssl")?.display().to_string();
    let what = ["-p", "-f", "-S", "-h", "-U"];
    let how = ["--warnings", "off", "--color", "0", "--ip", "127.0.0.1", "--openssl", &openssl, "--add-ca", &ca];
    let said = run_for(170, "testssl", &[&what[..], &how, &["--jsonfile", &json, &target]].concat(), "")?;
    let findings: Vec<Value> = serde_json::from_slice(&std::fs::read(&json)?).with_context(|| said.text.clone())?;
    let found: BTreeMap<&str, (&str, &str)> = findings
        .iter()
        .filter_map(|one| Some((one["id"].as_str()?, (one["severity"].as_str()?, one["finding"].as_str()?))))
        .collect();
    for (id, finding) in [
        ("SSLv2", "not offered"),
        ("SSLv3", "not offered"),
        ("TLS1", "not offered"),
        ("TLS1_1", "not offered"),
        ("TLS1_2", "offered"),
        ("TLS1_3", "offered"),
        ("ALPN_HTTP2", "h2"),
        ("PFS", "offered"),
        ("PFS_ECDHE_curves", "prime256v1 secp384r1 X25519"),
        ("cert_chain_of_trust", "passed"),
        ("cert_trust", "Ok via SAN"),
        ("cert_keySize", "EC 256"),
        ("HSTS_time", "365 days"),
        ("secure_renego", "supported"),
        ("secure_client_renego", "not vulnerable"),
        ("CRIME_TLS", "not vulnerable"),
        ("heartbleed", "not vulnerable"),
        ("CCS", "not vulnerable"),
        ("ticketbleed", "not vulnerable"),
        ("ROBOT", "not vulnerable"),
        ("SWEET32", "not vulnerable"),
        ("LOGJAM", "not vulnerable"),
        ("LUCKY13", "not vulnerable"),
        ("RC4", "not vulnerable"),
    ] {
        let said = found.get(id).with_context(|| format!("no finding {id}: {}", said.text))?;
        ensure!(said.1.starts_with(finding) && ["OK", "INFO"].contains(&said.0), "{id}: {said:?}");
    }
    let bad: Vec<_> = found
        .iter()
        .filter(|(id, (severity, _))| {
            !["OK", "INFO"].contains(severity) && NOT_OURS.iter().all(|(known, _)| known != *id)
        })
        .collect();
    ensure!(bad.is_empty(), "{bad:?}");
    Ok(())
}

/// sslyze writes public keys as numbers of hundreds of digits, which no reader of JSON takes for a number.
fn without_giants(text: &str) -> String {
    let digits = |word: &str| word.len() > 200 && word.bytes().all(|byte| byte.is_ascii_digit());
    let words = text.split_inclusive(|c: char| !c.is_ascii_digit());
    words
        .map(|word| -> String {
            if digits(&word[..word.len() - 1]) { format!("0{}", &word[word.len() - 1..]) } else { word.into() }
        })
        .collect()
}
