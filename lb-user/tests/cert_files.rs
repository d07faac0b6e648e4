//! `bailey cert` on files, and openssl's word on what it wrote.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

/// A directory to work in.
struct Folder(tempfile::TempDir);

impl Folder {
    /// None where there is no openssl, which is said.
    fn new() -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            eprintln!("skipped: openssl is not installed");
            return None;
        }
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write("password", "geheim\n");
        Some(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    fn run(&self, program: &str, line: &str) -> Output {
        Command::new(program).args(line.split_whitespace()).current_dir(self.path()).output().unwrap()
    }

    fn bailey(&self, line: &str) -> Output {
        self.run(env!("CARGO_BIN_EXE_bailey"), line)
    }

    /// Standard output of what must go well.
    fn good(&self, program: &str, line: &str) -> String {
        let out = self.run(program, line);
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    fn cert(&self, line: &str) -> String {
        self.good(env!("CARGO_BIN_EXE_bailey"), &format!("cert {line}"))
    }

    fn openssl(&self, line: &str) -> String {
        self.good("openssl", line)
    }

    /// What `bailey cert inspect` says.
    fn inspect(&self, line: &str) -> Vec<Value> {
        serde_json::from_str(&self.cert(&format!("inspect --json {line}"))).unwrap()
    }

    /// Exit code 1, and what was said.
    fn refused(&self, line: &str) -> String {
        let out = self.bailey(&format!("cert {line}"));
        assert_eq!(out.status.code(), Some(1), "{line}: {out:?}");
        String::from_utf8(out.stderr).unwrap()
    }
}

#[test]
fn openssl_reads_keys_of_every_type_and_nobody_else_does() {
    let Some(folder) = Folder::new() else { return };
    for (kind, says) in [
        ("ecdsa-p256", "NIST CURVE: P-256"),
        ("ecdsa-p384", "NIST CURVE: P-384"),
        ("ed25519", "ED25519 Private-Key"),
        ("rsa-2048", "2048 bit"),
    ] {
        folder.cert(&format!("new-key --type {kind} -o {kind}.key"));
        assert!(folder.openssl(&format!("pkey -in {kind}.key -noout -text")).contains(says), "{kind}");
        let mode = std::fs::metadata(folder.path().join(format!("{kind}.key"))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert!(folder.refused("new-key -o ed25519.key").contains("--force"));
    let before = std::fs::read(folder.path().join("ed25519.key")).unwrap();
    folder.cert("new-key -o ed25519.key --force");
    assert_ne!(before, std::fs::read(folder.path().join("ed25519.key")).unwrap());
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains(".new-")), "{left:?}");
}

#[test]
fn an_authority_of_openssl_signs_our_request_and_the_chain_is_put_in_order() {
    let Some(folder) = Folder::new() else { return };
    folder.cert("new-key -o ca.key");
    folder.cert("self-sign --key ca.key --subject CN=Root,O=Example --ca --days 10 -o ca.pem");
    folder.cert("new-key --type rsa-2048 -o www.key");
    folder.cert("request --key www.key --dns www.test --dns *.test --ip 192.0.2.1 --must-staple -o www.csr");
    let asked = folder.openssl("req -in www.csr -noout -verify -text");
    for part in ["CN = www.test", "DNS:*.test", "IP Address:192.0.2.1", "status_request"] {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    folder.openssl("x509 -req -in www.csr -CA ca.pem -CAkey ca.key -copy_extensions copy -days 5 -out www.pem");
    folder.openssl("verify -CAfile ca.pem www.pem");
    let objects = folder.inspect("www.pem www.key www.csr ca.pem");
    let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["certificate", "key", "request", "certificate"]);
    assert_eq!(objects[0]["issuer"], "CN=Root, O=Example");
    assert_eq!((&objects[0]["must_staple"], &objects[0]["key"]), (&true.into(), &"RSA 2048".into()));
    assert_eq!(objects[1]["belongs_to"], serde_json::json!(["CN=www.test", "request of CN=www.test"]));
    let fingerprint = folder.openssl("x509 -in www.pem -noout -fingerprint -sha256");
    let fingerprint = fingerprint.trim().split('=').nth(1).unwrap().replace(':', "").to_lowercase();
    assert_eq!(objects[0]["fingerprint"], fingerprint);

    folder.cert("convert ca.pem --chain www.pem --key www.key --to pem -o all.pem");
    let subjects: Vec<_> = folder.inspect("all.pem").iter().map(|o| o["subject"].as_str().map(str::to_owned)).collect();
    assert_eq!(subjects, [Some("CN=www.test".into()), Some("CN=Root, O=Example".into()), None]);
    let text = folder.cert("inspect all.pem");
    assert!(text.contains("days left") && text.contains("belongs to   CN=www.test"), "{text}");
}

#[test]
fn archives_go_both_ways() {
    let Some(folder) = Folder::new() else { return };
    // Forms of before PKCS#8.
    folder.openssl("ecparam -name secp384r1 -genkey -noout -out ec.key");
    folder.openssl("genrsa -traditional -out rsa.key 2048");
    for kind in ["ec", "rsa"] {
        folder.cert(&format!("self-sign --key {kind}.key --dns {kind}.test -o {kind}.pem"));
        let with = format!("--key {kind}.key --password-file password");
        folder.cert(&format!("convert {kind}.pem {with} --to pkcs12 -o {kind}.p12"));
        let read = folder.openssl(&format!("pkcs12 -in {kind}.p12 -passin file:password -nodes"));
        assert!(read.contains("BEGIN PRIVATE KEY") && read.contains(&format!("CN = {kind}.test")), "{read}");
    }
    folder.openssl("pkcs12 -export -in ec.pem -inkey ec.key -passout file:password -out theirs.p12");
    let theirs = "theirs.p12 --password-file password";
    assert_eq!(folder.inspect(theirs)[1]["belongs_to"], serde_json::json!(["CN=ec.test"]));
    folder.cert(&format!("convert {theirs} --to pem -o theirs.pem"));
    let key = |file: &str| folder.openssl(&format!("pkey -in {file} -pubout"));
    assert_eq!(key("theirs.pem"), key("ec.key"));
    assert!(folder.refused("inspect theirs.p12").contains("--password-file"));
    folder.write("wrong", "falsch\n");
    assert!(folder.refused("inspect theirs.p12 --password-file wrong").contains("password is wrong"));
    folder.cert("convert ec.pem --to der -o ec.der");
    folder.openssl("x509 -inform DER -in ec.der -noout");
    assert!(folder.refused("convert ec.pem --key ec.key --to der -o both.der").contains("--to pem"));
    assert!(folder.refused("convert ec.pem --key rsa.key --to pem -o both.pem").contains("CN=ec.test"));
}

#[test]
fn revocation_lists_are_shown_and_bad_files_are_named() {
    let Some(folder) = Folder::new() else { return };
    folder.cert("new-key -o ca.key");
    folder.cert("self-sign --key ca.key --subject CN=Root --ca -o ca.pem");
    folder.write("index", "");
    folder.write("ca.cnf", "[ca]\ndefault_ca=own\n[own]\ndatabase=index\ndefault_md=sha256\ndefault_crl_days=2\n");
    folder.openssl("ca -config ca.cnf -gencrl -keyfile ca.key -cert ca.pem -out ca.crl");
    let list = &folder.inspect("ca.crl")[0];
    assert_eq!((&list["kind"], &list["issuer"], &list["overdue"]), (&"crl".into(), &"CN=Root".into(), &false.into()));
    folder.write("bad", "-----BEGIN CERTIFICATE-----\nMII\n");
    assert!(folder.refused("inspect bad").contains("bad: line 1: the block \"CERTIFICATE\" has no END line"));
    assert!(folder.refused("inspect gone").contains("cannot read gone"));
    assert!(folder.refused("request --key ca.pem --dns a.test -o x").contains("holds no private key"));
    assert!(folder.refused("self-sign --key ca.key --subject www -o x").contains("CN=www.example.com"));
    assert!(folder.refused("new-key -o no/such/dir").contains("cannot write"));
    let out = folder.bailey("cert new-key --type dsa -o x");
    assert_eq!(out.status.code(), Some(2));
}
