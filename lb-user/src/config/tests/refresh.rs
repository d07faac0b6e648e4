//! The text in force, read again over itself.

use super::tls::{Pki, TLS};
use super::*;
use crate::cert::blocks::to_pem;

fn again(before: &Config) -> Refreshed {
    refresh(before, host().now).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_new_certificate_is_taken_and_a_bad_one_leaves_the_last() {
    let pki = Pki::new();
    let first = pki.loaded(TLS).config;
    pki.issue("www", &["www.test", "more.test"]);
    assert!(first.files.iter().any(WatchedFile::has_changed));
    let second = again(&first);
    assert_eq!(second.stale, []);
    assert_eq!(second.config.certificates[0].certificate.names, ["www.test", "more.test"]);
    assert_eq!(second.config.certificates[1], first.certificates[1]);

    pki.secret("www.key", to_pem("PRIVATE KEY", b"torn").as_bytes());
    let third = again(&second.config);
    let [stale] = &third.stale[..] else { panic!("{:?}", third.stale) };
    assert_eq!((stale.kind, stale.name.as_str()), (FileKind::Certificate, "www"));
    assert!(stale.problem.message.contains("\"www.key\"") && stale.problem.line > 1, "{stale:?}");
    assert_eq!(third.config.certificates, second.config.certificates);
    // Mended later, it is seen, as the bad one is noted, too.
    assert!(!third.config.files.iter().any(WatchedFile::has_changed));
    pki.issue("www", &["www.test"]);
    assert!(third.config.files.iter().any(WatchedFile::has_changed));
    let fourth = again(&third.config);
    assert_eq!((fourth.stale.len(), fourth.config.certificates[0].certificate.names.len()), (0, 1));
}

#[test]
fn every_kind_of_file_falls_back_by_itself() {
    let pki = Pki::new();
    let first = pki.loaded(TLS).config;
    for name in ["ca.pem", "ca.crl", "tickets.keys", "archive.pass"] {
        pki.secret(name, b"");
    }
    let second = again(&first);
    let mut kinds: Vec<_> = second.stale.iter().map(|stale| stale.kind).collect();
    kinds.sort();
    assert_eq!(kinds, [FileKind::Certificate, FileKind::Authorities, FileKind::Crl, FileKind::TicketKeys]);
    for (before, after) in first.services.iter().zip(&second.config.services) {
        assert_eq!(before, after);
    }
    assert_eq!((&second.config.tls, &second.config.certificates), (&first.tls, &first.certificates));
    // Twice bad is still the last good one.
    assert_eq!(again(&second.config).config.tls, first.tls);
    std::fs::remove_file(pki.files.0.path().join("ca.pem")).unwrap();
    let third = again(&second.config);
    assert_eq!(third.config.services, first.services);
    assert!(third.stale.iter().any(|stale| stale.problem.message.contains("cannot read \"ca.pem\"")));
}

#[test]
fn what_is_no_matter_of_certificates_stays_as_it_was() {
    let pki = Pki::new();
    let text = TLS.replace("datapath = \"sockets\"", "interfaces = [\"eth0\"]\nuser = \"bailey\"")
        + "\n[shield]\ndeny_files = [\"deny.txt\"]\n";
    pki.secret("deny.txt", b"192.0.2.0/24\n");
    let first = pki.loaded(&text).config;
    pki.secret("deny.txt", b"nonsense\n");
    let second = again(&first);
    assert_eq!((second.config.prefixes, second.config.edge), (first.prefixes, first.edge));
    assert_eq!(second.config.origin, first.origin);
}
