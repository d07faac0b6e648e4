//! Files of certificates in every form that they come in, and bad ones: each is named, with its place and a remedy.

use std::process::Command;

use anyhow::{Result, ensure};
use lb_tests::backend::Backend;
use lb_tests::harness::{Test, with};
use lb_tests::here::{Here, free_address};
use lb_tests::lab::HOST;
use lb_tests::netns::finish;
use lb_tests::pki::{KeyKind, Order};
use lb_tests::programs::{request, s_client};

use crate::clients::Clients;
use crate::site::{subject_is, web};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("pem_der_and_pkcs12_serve_with_their_chain_in_order", &["openssl"], forms),
        with("every_bad_file_is_named_with_its_place_and_a_remedy", &["openssl"], bad),
        with("an_incomplete_chain_is_warned_of_by_name", &["openssl"], incomplete),
        with("what_the_certificate_tools_make_openssl_takes", &["openssl"], tools),
    ]
}

/// `openssl …` in the folder; words are split at blanks.
fn openssl(here: &Here, words: &str) -> Result<String> {
    finish(Command::new("openssl").args(words.split(' ')).current_dir(here.folder()))
}

fn forms() -> Result<()> {
    let (here, backend) = (Here::new()?, Backend::start_here("app")?);
    let issuing = here.authority.below("Issuing")?.below("Issuing below")?;
    // DER holds one certificate: that one the root signs.
    let root = &here.authority;
    for (name, key, by) in
        [("p256", KeyKind::P256, &issuing), ("p384", KeyKind::P384, root), ("rsa", KeyKind::Rsa, &issuing)]
    {
        by.order(here.folder(), name, &Order { subjects: &[HOST], key, ..Order::default() })?;
    }
    std::fs::write(here.file("pass"), "open sesame\n")?;
    openssl(&here, "pkey -in p384.key -outform DER -out p384.key.der")?;
    openssl(&here, "ec -in p256.key -out p256.sec1")?;
    openssl(&here, "rsa -in rsa.key -traditional -out rsa.pkcs1")?;
    openssl(&here, "x509 -in p384.pem -outform DER -out p384.der")?;
    let archive = "pkcs12 -export -in rsa.pem -inkey rsa.key -passout file:pass";
    openssl(&here, &format!("{archive} -out new.p12"))?;
    openssl(&here, &format!("{archive} -legacy -out old.p12"))?;
    let pem = std::fs::read_to_string(here.file("p256.pem"))?;
    let mut blocks: Vec<&str> = pem.split_inclusive("-----END CERTIFICATE-----\n").collect();
    blocks.reverse();
    std::fs::write(here.file("reversed.pem"), blocks.concat())?;
    // (name, keys, common name, certificates that are sent)
    let forms = [
        ("pem", "chain = \"p256.pem\"\nkey = \"p256.key\"", "p256", 3),
        ("sec1", "chain = \"p256.pem\"\nkey = \"p256.sec1\"", "p256", 3),
        ("reversed", "chain = \"reversed.pem\"\nkey = \"p256.key\"", "p256", 3),
        ("der", "chain = \"p384.der\"\nkey = \"p384.key.der\"", "p384", 1),
        ("pkcs1", "chain = \"rsa.pem\"\nkey = \"rsa.pkcs1\"", "rsa", 3),
        ("new", "file = \"new.p12\"\npassword_file = \"pass\"", "rsa", 3),
        ("old", "file = \"old.p12\"\npassword_file = \"pass\"", "rsa", 3),
    ];
    let mut config = here.head("") + &format!("[pool.app]\nbackends = [\"{}\"]\n", backend.address);
    let mut places = Vec::new();
    for (name, keys, subject, sent) in forms {
        let at = free_address()?;
        let service = web(at, &backend, &format!("certificates = [\"{name}\"]"));
        let service =
            service[service.find("[service.web]").unwrap_or(0)..].replace("service.web", &format!("service.{name}"));
        config += &format!("[certificate.{name}]\n{keys}\n{service}");
        places.push((name, at, subject, sent));
    }
    let _edge = here.start(&config)?;
    for (name, at, subject, sent) in places {
        let said = s_client(at, &here.ca(), &["-servername", HOST, "-showcerts"], &request(HOST, "/"))?;
        let count = said.text.matches("-----BEGIN CERTIFICATE-----").count();
        ensure!(subject_is(&said, subject) && said.status(200) && count == sent, "{name}, {count}: {}", said.text);
    }
    Ok(())
}

fn bad() -> Result<()> {
    let (here, backend, at) = (Here::new()?, Backend::start_here("app")?, free_address()?);
    Clients::new(here.folder())?;
    here.authority.issue(here.folder(), "other", &[HOST])?;
    let write = |name: &str, text: &str| std::fs::write(here.file(name), text);
    write("empty", "")?;
    write("words", "this is no certificate\n")?;
    let pem = std::fs::read_to_string(here.file("edge.pem"))?;
    write("cut.pem", &pem[..pem.len() / 2])?;
    write("spoilt.pem", &pem.replacen("\nMII", "\n!!!", 1))?;
    write("pass", "right\n")?;
    write("wrong", "wrong\n")?;
    openssl(&here, "pkcs12 -export -in edge.pem -inkey edge.key -passout file:pass -out edge.p12")?;
    openssl(&here, "pkcs12 -export -nokeys -in edge.pem -passout file:pass -out keyless.p12")?;
    openssl(&here, "pkey -in edge.key -aes256 -passout pass:x -out locked.key")?;
    let good = here.head("")
        + &web(at, &backend, "")
        + "[service.web.client_cert]\nmode = \"required\"\nca = \"clients.pem\"\ncrls = [\"clients.crl\"]\n";
    let fine = here.check(&good)?;
    ensure!(fine.code == Some(0), "{fine:?}");
    let chain = "chain = \"edge.pem\"\nkey = \"edge.key\"";
    // (what is replaced, by what, what the problem names besides the line)
    let cases: &[(&str, &str, &[&str])] = &[
        (chain, "chain = \"gone.pem\"\nkey = \"edge.key\"", &["gone.pem"]),
        (chain, "chain = \"empty\"\nkey = \"edge.key\"", &["\"empty\"", "PEM"]),
        (chain, "chain = \"words\"\nkey = \"edge.key\"", &["\"words\"", "PEM"]),
        (chain, "chain = \"cut.pem\"\nkey = \"edge.key\"", &["cut.pem", "line 1"]),
        (chain, "chain = \"spoilt.pem\"\nkey = \"edge.key\"", &["spoilt.pem"]),
        (chain, "chain = \"edge.key\"\nkey = \"edge.key\"", &["edge.key", "certificate"]),
        (chain, "chain = \"edge.pem\"\nkey = \"edge.pem\"", &["edge.pem", "key"]),
        (chain, "chain = \"edge.pem\"\nkey = \"other.key\"", &["edge.pem", "other.key"]),
        (chain, "chain = \"edge.pem\"\nkey = \"locked.key\"", &["locked.key"]),
        (chain, "file = \"edge.p12\"\npassword_file = \"wrong\"", &["edge.p12", "password"]),
        (chain, "file = \"edge.p12\"", &["edge.p12", "password"]),
        (chain, "file = \"keyless.p12\"\npassword_file = \"pass\"", &["keyless.p12", "key"]),
        (chain, "file = \"edge.p12\"\npassword_file = \"gone.pass\"", &["gone.pass"]),
        (chain, "file = \"words\"\npassword_file = \"pass\"", &["\"words\""]),
        ("ca = \"clients.pem\"", "ca = \"words\"", &["\"words\""]),
        ("ca = \"clients.pem\"", "ca = \"gone.pem\"", &["gone.pem"]),
        ("crls = [\"clients.crl\"]", "crls = [\"edge.pem\"]", &["edge.pem"]),
        ("crls = [\"clients.crl\"]", "crls = [\"gone.crl\"]", &["gone.crl"]),
    ];
    for (old, new, words) in cases {
        let config = good.replacen(old, new, 1);
        ensure!(config != good, "{old} is not in the config");
        let outcome = here.check(&config)?;
        let text = outcome.stdout + &outcome.stderr;
        ensure!(outcome.code == Some(1) && text.contains("checked.toml:") && text.contains("help:"), "{new}: {text}");
        for word in *words {
            ensure!(text.contains(word), "{new}: {word} is not in {text}");
        }
    }
    Ok(())
}

fn incomplete() -> Result<()> {
    let (here, backend, at) = (Here::new()?, Backend::start_here("app")?, free_address()?);
    let issuing = here.authority.below("Issuing of the lab")?;
    issuing.order(here.folder(), "edge", &Order { subjects: &[HOST], ..Order::default() })?;
    let config = here.head("") + &web(at, &backend, "");
    let pem = std::fs::read_to_string(here.file("edge.pem"))?;
    let (leaf, _) = pem.split_at(pem.find("-----END CERTIFICATE-----\n").unwrap_or(0) + 26);
    std::fs::write(here.file("edge.pem"), leaf)?;
    let checked = here.check(&config)?;
    let text = checked.stdout + &checked.stderr;
    let named = text.contains("warning") && text.contains("edge.pem") && text.contains("Issuing of the lab");
    ensure!(checked.code == Some(0) && named, "{text}");
    Ok(())
}

fn tools() -> Result<()> {
    let here = Here::new()?;
    here.authority.save_key(&here.file("ca.key"))?;
    std::fs::write(here.file("pass"), "open sesame\n")?;
    let bailey = |words: &str| -> Result<String> {
        finish(Command::new(lb_tests::need::binary("bailey")?).args(words.split(' ')).current_dir(here.folder()))
    };
    for (kind, said) in [("ecdsa-p256", "prime256v1"), ("ecdsa-p384", "secp384r1"), ("rsa-2048", "2048 bit")] {
        bailey(&format!("cert new-key --type {kind} --out {kind}.key"))?;
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(here.file(&format!("{kind}.key")))?.permissions(),
        );
        ensure!(mode & 0o077 == 0, "{kind}.key has mode {mode:o}");
        let shown = openssl(&here, &format!("pkey -in {kind}.key -noout -text"))?;
        ensure!(shown.contains(said), "{kind}: {shown}");
        bailey(&format!(
            "cert request --key {kind}.key --dns {HOST} --dns *.bailey.test --ip 192.0.2.1 --out {kind}.csr"
        ))?;
        let shown = openssl(&here, &format!("req -in {kind}.csr -noout -verify -text"))?;
        ensure!(shown.contains(&format!("DNS:{HOST}, DNS:*.bailey.test, IP Address:192.0.2.1")), "{shown}");
        let sign = "-CA ca.pem -CAkey ca.key -copy_extensions copyall -days 30";
        openssl(&here, &format!("x509 -req -in {kind}.csr {sign} -out {kind}.pem"))?;
        ensure!(openssl(&here, &format!("verify -CAfile ca.pem -verify_hostname {HOST} {kind}.pem"))?.contains("OK"));
        let seen = bailey(&format!("cert inspect {kind}.pem {kind}.key"))?;
        ensure!(seen.contains(HOST) && seen.contains("Bailey lab"), "{seen}");
        // To PKCS#12 and back: what comes out is what went in.
        let archive = format!("{kind}.p12 --password-file pass");
        bailey(&format!("cert convert {kind}.pem --key {kind}.key --to pkcs12 --out {archive}"))?;
        let back = openssl(&here, &format!("pkcs12 -in {kind}.p12 -passin file:pass -nodes -nokeys -clcerts"))?;
        let body = |text: &str| text.split("-----").nth(2).map(str::to_owned);
        ensure!(body(&back) == body(&std::fs::read_to_string(here.file(&format!("{kind}.pem")))?), "{back}");
        bailey(&format!("cert convert {archive} --to pem --out {kind}.back"))?;
        let key = openssl(&here, &format!("pkey -in {kind}.back"))?;
        ensure!(key == openssl(&here, &format!("pkey -in {kind}.key"))?, "{kind}: another key came back");
        bailey(&format!("cert self-sign --key {kind}.key --dns {HOST} --days 10 --out {kind}.self"))?;
        ensure!(
            openssl(&here, &format!("verify -CAfile {kind}.self -verify_hostname {HOST} {kind}.self"))?.contains("OK")
        );
        let again = bailey(&format!("cert new-key --type {kind} --out {kind}.key"));
        ensure!(again.is_err_and(|error| error.to_string().contains("--force")), "{kind}.key was written over");
    }
    Ok(())
}
