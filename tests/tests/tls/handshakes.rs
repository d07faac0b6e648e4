//! Versions, suites, groups, names and signature schemes, by openssl and GnuTLS.

use anyhow::{Result, ensure};
use lb_tests::harness::{Test, with};
use lb_tests::here::free_address;
use lb_tests::lab::HOST;
use lb_tests::pki::{KeyKind, Order};
use lb_tests::programs::{curl, gnutls, newest_openssl, run};

use crate::site::{Site, failures, subject_is};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("openssl_agrees_on_every_suite_and_group_of_the_default_policy_and_on_no_other", &["openssl"], suites),
        with("policies_differ_by_service_and_by_name", &["openssl"], policies),
        with("gnutls_and_curl_speak_both_versions_and_protocols", &["gnutls-cli", "curl"], others),
        with("ecdsa_and_rsa_stand_side_by_side_and_the_client_chooses", &["openssl"], both_keys),
        with("an_unknown_name_gets_the_default_certificate_or_is_refused", &["openssl"], names),
        with("openssl_3_5_takes_the_post_quantum_group", &["sslyze"], post_quantum),
        with("plain_http_on_the_tls_port_is_told_so", &["curl"], plain_http),
    ]
}

fn suites() -> Result<()> {
    let site = Site::new("certificates = [\"lab\", \"rsa\"]", RSA, |here| {
        here.authority.order(
            here.folder(),
            "rsa",
            &Order { subjects: &[HOST], key: KeyKind::Rsa, ..Order::default() },
        )?;
        Ok(())
    })?;
    let tls13 = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
    for suite in tls13 {
        let said = site.here.s_client(site.at, &["-tls1_3", "-ciphersuites", suite])?;
        ensure!(said.has(&format!("Cipher is {suite}")) && said.status(200), "{suite}: {}", said.text);
    }
    for key in ["ECDSA", "RSA"] {
        for cipher in ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"] {
            let suite = format!("ECDHE-{key}-{cipher}");
            let said = site.here.s_client(site.at, &["-tls1_2", "-cipher", &suite])?;
            ensure!(said.has(&format!("Cipher is {suite}")) && said.status(200), "{suite}: {}", said.text);
        }
    }
    for weak in ["ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES256-SHA384", "AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-CCM"] {
        let said = site.here.s_client(site.at, &["-tls1_2", "-cipher", weak])?;
        ensure!(said.has("handshake failure") && !said.status(200), "{weak}: {}", said.text);
    }
    for (group, name) in [("X25519", "X25519, 253 bits"), ("P-256", "prime256v1"), ("P-384", "secp384r1")] {
        // In TLS 1.2 the groups also say which ECDSA keys are understood.
        for version in [&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"][..], &["-tls1_3"]] {
            let said = site.here.s_client(site.at, &[version, &["-groups", group]].concat())?;
            ensure!(said.has(name) && said.status(200), "{group}: {}", said.text);
        }
    }
    let said = site.here.s_client(site.at, &["-groups", "P-521"])?;
    ensure!(!said.status(200), "{}", said.text);
    for old in ["-tls1", "-tls1_1"] {
        let said = site.here.s_client(site.at, &[old, "-cipher", "ALL:@SECLEVEL=0"])?;
        ensure!(said.has("alert") && !said.status(200), "{old}: {}", said.text);
    }
    let scrape = site.edge.metrics()?;
    let sum = |name: &str, label| scrape.sum(name, &[("service", "web"), label]);
    ensure!(sum("bailey_tls_handshake_failures_total", ("reason", "no_shared_cipher")) == 5.0, "{}", failures(&scrape));
    ensure!(
        sum("bailey_tls_handshake_failures_total", ("reason", "no_shared_version")) == 2.0,
        "{}",
        failures(&scrape)
    );
    ensure!(sum("bailey_tls_groups_total", ("group", "secp384r1")) == 2.0, "groups are counted");
    Ok(())
}

const RSA: &str = "[certificate.rsa]\nchain = \"rsa.pem\"\nkey = \"rsa.key\"\n";

fn policies() -> Result<()> {
    let more = "[tls_policy.narrow]\nbase = \"custom\"\nmin_tls = \"1.2\"\nsuites = [\"TLS_AES_256_GCM_SHA384\", \
                \"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\"]\ngroups = [\"secp384r1\"]\n\
                [[service.web.sni]]\nnames = [\"modern.bailey.test\"]\ntls_policy = \"modern\"\n\
                [[service.web.sni]]\nnames = [\"*.narrow.bailey.test\"]\ntls_policy = \"narrow\"\n";
    let site = Site::new("tls_policy = \"intermediate\"", more, |_| Ok(()))?;
    // (name, arguments, is there an answer)
    let cases = [
        (HOST, &["-tls1_2"][..], true),
        (HOST, &["-groups", "X25519"], true),
        ("modern.bailey.test", &["-tls1_2"], false),
        ("modern.bailey.test", &["-tls1_3"], true),
        ("a.narrow.bailey.test", &["-groups", "X25519"], false),
        ("a.narrow.bailey.test", &["-groups", "P-384"], true),
        ("a.narrow.bailey.test", &["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"], false),
        ("a.narrow.bailey.test", &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"], true),
        ("a.narrow.bailey.test", &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], false),
    ];
    for (name, arguments, answered) in cases {
        let said = site.here.s_client(site.at, &[&["-servername", name], arguments].concat())?;
        ensure!(said.has("New, TLSv1") == answered, "{name} {arguments:?}: {}", said.text);
    }
    Ok(())
}

fn others() -> Result<()> {
    let site = Site::new("hsts = { max_age = \"365d\", include_subdomains = true }", "", |_| Ok(()))?;
    for (priority, version) in [
        ("NORMAL:-VERS-ALL:+VERS-TLS1.2", "TLS1.2"),
        ("NORMAL:-VERS-ALL:+VERS-TLS1.3", "TLS1.3"),
        ("NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-SECP384R1", "ECDHE-SECP384R1"),
        ("NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+CHACHA20-POLY1305", "CHACHA20-POLY1305"),
    ] {
        let said = gnutls(site.at, HOST, &site.here.ca(), priority, &[])?;
        ensure!(
            said.has(version) && said.has("Handshake was completed") && said.status(200),
            "{priority}: {}",
            said.text
        );
    }
    let weak = gnutls(site.at, HOST, &site.here.ca(), "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-CBC", &[])?;
    ensure!(weak.code != Some(0) && !weak.has("Handshake was completed"), "{}", weak.text);
    let url = format!("https://{HOST}:{}/", site.at.port());
    for (option, version) in [("--http1.1", "HTTP/1.1 200"), ("--http2", "HTTP/2 200")] {
        for tls in [&["--tlsv1.2", "--tls-max", "1.2"][..], &["--tlsv1.3"]] {
            let said = curl(site.at, &[HOST], &site.here.ca(), &[&[option, &url], tls].concat())?;
            let hsts =
                said.text.to_lowercase().contains("strict-transport-security: max-age=31536000; includesubdomains");
            ensure!(said.code == Some(0) && said.has(version) && hsts, "{option} {tls:?}: {}", said.text);
        }
    }
    Ok(())
}

fn both_keys() -> Result<()> {
    let site = Site::new("certificates = [\"lab\", \"rsa\"]", RSA, |here| {
        here.authority.order(
            here.folder(),
            "rsa",
            &Order { subjects: &[HOST], key: KeyKind::Rsa, ..Order::default() },
        )?;
        Ok(())
    })?;
    for version in ["-tls1_2", "-tls1_3"] {
        for (schemes, subject) in
            [("ECDSA+SHA256", "edge"), ("RSA-PSS+SHA256:RSA+SHA256", "rsa"), ("RSA-PSS+SHA256:ECDSA+SHA256", "edge")]
        {
            let said = site.here.s_client(site.at, &[version, "-sigalgs", schemes])?;
            ensure!(subject_is(&said, subject) && said.status(200), "{version} {schemes}: {}", said.text);
        }
    }
    ensure!(site.backend.count() == 6);
    Ok(())
}

fn names() -> Result<()> {
    let at = free_address()?;
    let strict = format!(
        "[service.strict]\naddresses = [\"{at}\"]\nmode = \"https\"\npool = \"app\"\ncertificates = [\"other\"]\n\
         unknown_sni = \"refuse\"\n[certificate.other]\nchain = \"other.pem\"\nkey = \"other.key\"\n"
    );
    let site = Site::new("certificates = [\"lab\", \"other\"]", &strict, |here| {
        here.authority.issue(here.folder(), "other", &["other.test", "*.wild.test"])?;
        Ok(())
    })?;
    let here = &site.here;
    for (name, subject) in [
        (HOST, "edge"),
        ("OTHER.test", "other"),
        ("a.wild.test", "other"),
        ("a.b.wild.test", "edge"),
        ("nobody.test", "edge"),
    ] {
        let said = here.s_client(site.at, &["-servername", name])?;
        ensure!(subject_is(&said, subject), "{name}: {}", said.text);
    }
    ensure!(subject_is(&here.s_client(site.at, &["-noservername"])?, "edge"));
    for (words, known) in [
        (&["-servername", "other.test"][..], true),
        (&["-servername", "x.wild.test"], true),
        (&["-servername", "nobody.test"], false),
        (&["-noservername"], false),
    ] {
        let said = here.s_client(at, words)?;
        let refused = said.has("unrecognized name") || said.has("unrecognised name");
        ensure!(subject_is(&said, "other") == known && refused != known, "{words:?}: {}", said.text);
    }
    let scrape = site.edge.metrics()?;
    let refused =
        scrape.sum("bailey_tls_handshake_failures_total", &[("service", "strict"), ("reason", "unknown_name")]);
    ensure!(refused == 2.0, "{}", failures(&scrape));
    Ok(())
}

fn post_quantum() -> Result<()> {
    let site = Site::new("", "", |_| Ok(()))?;
    let said = newest_openssl(site.at, HOST, &site.here.ca())?;
    ensure!(said.has("version=TLSv1.3 group=X25519MLKEM768") && said.status(200), "{}", said.text);
    let groups =
        site.edge.metrics()?.sum("bailey_tls_groups_total", &[("service", "web"), ("group", "X25519MLKEM768")]);
    ensure!(groups == 1.0, "counted {groups}");
    Ok(())
}

fn plain_http() -> Result<()> {
    let site = Site::new("", "", |_| Ok(()))?;
    let said = curl(site.at, &[], &site.here.ca(), &[&format!("http://{}/secret", site.at)])?;
    ensure!(said.status(400) && said.text.to_lowercase().contains("https"), "{}", said.text);
    ensure!(site.backend.count() == 0);
    let raw = run("openssl", &["s_client", "-connect", &site.at.to_string(), "-starttls", "smtp"], "")?;
    ensure!(raw.code != Some(0), "{}", raw.text);
    let scrape = site.edge.metrics()?;
    let plain = scrape.sum("bailey_tls_handshake_failures_total", &[("service", "web"), ("reason", "plain_http")]);
    ensure!(plain == 1.0, "{}", failures(&scrape));
    Ok(())
}
