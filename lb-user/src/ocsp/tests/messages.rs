//! Messages against `openssl ocsp`, which answers from files: no port is needed for it.

use super::pki::{Ca, GOOD, REVOKED, UNKNOWN, aia};
use crate::ocsp::message::{NONCE, check_response};
use crate::ocsp::{MessageError, Question, responder_url};
use proptest::prelude::*;
use rcgen::ExtendedKeyUsagePurpose;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};
use tls_worker::api::OcspStatus;

const OURS: [u8; NONCE] = [7; NONCE];

#[test]
fn a_real_responder_is_asked_and_believed() {
    let ca = Ca::new("ca");
    for (serial, status) in [(GOOD, OcspStatus::Good), (REVOKED, OcspStatus::Revoked), (UNKNOWN, OcspStatus::Unknown)] {
        let question = ca.question(serial);
        let response = ca.respond(&question.request(&OURS).unwrap(), None, &["-nmin", "10"]);
        let now = SystemTime::now();
        let checked = check_response(&response, &question, Some(&OURS), now).unwrap();
        assert_eq!(checked.status, status);
        let left = checked.valid_until.duration_since(now).unwrap();
        assert!(left <= Duration::from_secs(600) && left > Duration::from_secs(500), "{left:?}");
    }
}

#[test]
fn a_response_is_believed_for_its_time_and_nothing_else() {
    let ca = Ca::new("ca");
    let question = ca.question(GOOD);
    let response = ca.respond(&question.request(&OURS).unwrap(), None, &["-nmin", "10"]);
    let at = |seconds: i64| {
        let delta = Duration::from_secs(seconds.unsigned_abs());
        let now = SystemTime::now();
        check_response(&response, &question, None, if seconds < 0 { now - delta } else { now + delta })
    };
    assert!(at(0).is_ok() && at(-200).is_ok(), "clocks differ a little");
    assert_eq!(at(-400), Err(MessageError::Early));
    assert!(matches!(at(700), Err(MessageError::Late(_))));
    // Without nextUpdate it is good for an hour.
    let endless = ca.respond(&question.request(&OURS).unwrap(), None, &[]);
    let now = SystemTime::now();
    assert!(check_response(&endless, &question, None, now + Duration::from_secs(3000)).is_ok());
    assert!(check_response(&endless, &question, None, now + Duration::from_secs(4000)).is_err());
    assert_eq!(check_response(&response, &ca.question(REVOKED), None, now), Err(MessageError::OtherCertificate));
    let namesake = Ca::new("ca");
    assert_eq!(check_response(&response, &namesake.question(GOOD), None, now), Err(MessageError::OtherCertificate));
}

#[test]
fn a_nonce_must_be_ours_or_absent() {
    let ca = Ca::new("ca");
    let question = ca.question(GOOD);
    let now = SystemTime::now();
    let response = ca.respond(&question.request(&[8; NONCE]).unwrap(), None, &["-nmin", "10"]);
    assert_eq!(check_response(&response, &question, Some(&OURS), now), Err(MessageError::Nonce));
    let file = ca.dir.path().join("without.der");
    let mut command = Command::new("openssl");
    command.args(["ocsp", "-no_nonce", "-issuer"]).arg(ca.dir.path().join("ca.pem"));
    command.args(["-serial", &GOOD.to_string(), "-reqout"]).arg(&file);
    assert!(command.status().unwrap().success());
    let response = ca.respond(&std::fs::read(file).unwrap(), None, &["-nmin", "10"]);
    assert!(check_response(&response, &question, Some(&OURS), now).is_ok());
}

#[test]
fn a_signer_must_be_the_issuers_own_and_told_to_sign() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let question = ca.question(GOOD);
    let request = question.request(&OURS).unwrap();
    let check = |signer: &std::path::Path, more: &[&str]| {
        let more: Vec<_> = ["-nmin", "10"].into_iter().chain(more.iter().copied()).collect();
        let response = ca.respond(&request, Some(signer), &more);
        check_response(&response, &question, Some(&OURS), SystemTime::now())
    };
    let good = ca.signer("good", &ca, |_| {});
    assert_eq!(check(&good, &[]).unwrap().status, OcspStatus::Good);
    assert_eq!(check(&good, &["-resp_no_certs"]), Err(MessageError::Signer), "its certificate is not there");
    let purpose = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    assert_eq!(check(&ca.signer("purpose", &ca, purpose), &[]), Err(MessageError::Signer));
    let none = |params: &mut rcgen::CertificateParams| params.extended_key_usages.clear();
    assert_eq!(check(&ca.signer("none", &ca, none), &[]), Err(MessageError::Signer));
    assert_eq!(check(&ca.signer("stranger", &other, |_| {}), &[]), Err(MessageError::Signer));
    let old = |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    assert_eq!(check(&ca.signer("old", &ca, old), &[]), Err(MessageError::Signer));
    assert_eq!(check(&good, &["-rmd", "sha1"]), Err(MessageError::Algorithm));
}

#[test]
fn an_error_of_the_responder_is_named() {
    let ca = Ca::new("ca");
    let question = ca.question(GOOD);
    for (code, word) in
        [(1, "malformedRequest"), (2, "internalError"), (3, "tryLater"), (5, "sigRequired"), (6, "unauthorized")]
    {
        let result = check_response(&[0x30, 3, 0x0a, 1, code], &question, None, SystemTime::now());
        assert_eq!(result, Err(MessageError::Refused(word)));
    }
    for bytes in [&[0x30, 3, 0x0a, 1, 0][..], &[], b"<html>"] {
        let result = check_response(bytes, &question, None, SystemTime::now());
        assert!(matches!(result, Err(MessageError::Malformed(_))), "{result:?}");
    }
    assert!(matches!(Question::new(b"x", &ca.der), Err(MessageError::Certificate { which: "issuer's", .. })));
}

#[test]
fn a_certificate_names_its_responder() {
    let ca = Ca::new("ca");
    let with = |url: &str| {
        let (der, _) = ca.leaf(GOOD, |params| params.custom_extensions = vec![aia(url)]);
        responder_url(&der)
    };
    assert_eq!(with("http://ocsp.example/"), Some("http://ocsp.example/".into()));
    assert_eq!(with("https://ocsp.example/"), None);
    assert_eq!(responder_url(&ca.der), None);
    assert_eq!(responder_url(b"no certificate"), None);
}

/// A question, its response, and when it was good.
static ASKED: LazyLock<(Question, Vec<u8>, SystemTime)> = LazyLock::new(|| {
    let ca = Ca::new("ca");
    let question = ca.question(REVOKED);
    let response = ca.respond(&question.request(&OURS).unwrap(), None, &["-nmin", "10"]);
    (question, response, SystemTime::now())
});

proptest! {
    #[test]
    fn a_response_that_was_touched_says_nothing_else(at in 0usize..2000, bits in 1u8.., cut in 0usize..2000) {
        let (question, response, now) = &*ASKED;
        let original = check_response(response, question, Some(&OURS), *now).unwrap();
        let mut touched = response.clone();
        let at = at % touched.len();
        touched[at] ^= bits;
        if let Ok(checked) = check_response(&touched, question, Some(&OURS), *now) {
            prop_assert_eq!(checked, original);
        }
        touched.truncate(cut);
        let _ = check_response(&touched, question, Some(&OURS), *now);
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (question, _, now) = &*ASKED;
        prop_assert!(check_response(&bytes, question, None, *now).is_err());
    }
}
