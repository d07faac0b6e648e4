//! testssl.sh and sslyze against the default policy with HSTS and a chain of an authority of our own: what SSL Labs asks
//! for an A+, asserted by their findings.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use lb_tests::harness::{Test, with};
use lb_tests::here::Here;
use lb_tests::lab::HOST;
use lb_tests::pki::{KeyKind, Order};
use lb_tests::programs::run_for;
use serde_json::Value;

use crate::site::Site;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("sslyze_finds_what_an_a_plus_asks_for", &["sslyze"], sslyze),
        with("testssl_finds_nothing_that_costs_an_a_plus", &["testssl", "openssl"], testssl),
    ]
}

/// ECDSA and RSA below an intermediate authority, the default policy, HSTS of a year.
fn site() -> Result<Site> {
    let more = "[certificate.ecdsa]\nchain = \"ecdsa.pem\"\nkey = \"ecdsa.key\"\n\
                [certificate.rsa]\nchain = \"rsa.pem\"\nkey = \"rsa.key\"\n";
    Site::new("certificates = [\"ecdsa\", \"rsa\"]\nhsts = true", more, |here: &Here| {
        let issuing = here.authority.below("Bailey lab issuing")?;
        issuing.order(here.folder(), "ecdsa", &Order { subjects: &[HOST], ..Order::default() })?;
        issuing.order(here.folder(), "rsa", &Order { subjects: &[HOST], key: KeyKind::Rsa, ..Order::default() })?;
        Ok(())
    })
}

fn sslyze() -> Result<()> {
    let site = site()?;
    let (json, ca) = (site.here.file("sslyze.json").display().to_string(), site.here.ca().display().to_string());
    let target = format!("{HOST}:{}{{127.0.0.1}}", site.at.port());
    let words = ["--json_out", &json, "--sni", HOST, "--certinfo_ca_file", &ca, "--mozilla_config", "disable", &target];
    let said = run_for(120, "sslyze", &words, "")?;
    ensure!(said.code == Some(0), "{}", said.text);
    let report: Value = serde_json::from_slice(&std::fs::read(&json)?)?;
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
    for curve in ["X25519", "prime256v1", "secp384r1"] {
        ensure!(curves.contains(&curve), "{curves:?}");
    }
    ensure!(curves.iter().all(|curve| ["X25519", "prime256v1", "secp384r1"].contains(curve)), "{curves:?}");
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
