//! A CA in a directory, with `openssl ocsp` as its responder.

use crate::ocsp::Question;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SerialNumber,
};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Serial numbers that the responder's index has.
pub(super) const GOOD: u64 = 5;
pub(super) const REVOKED: u64 = 6;
pub(super) const UNKNOWN: u64 = 7;

pub(super) struct Ca {
    pub(super) dir: tempfile::TempDir,
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) der: Vec<u8>,
}

impl Ca {
    pub(super) fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
        std::fs::write(dir.path().join("ca.key"), key.serialize_pem()).unwrap();
        let index = format!(
            "V\t491231235959Z\t\t{GOOD:02X}\tunknown\t/CN=good\n\
             R\t491231235959Z\t250101000000Z,keyCompromise\t{REVOKED:02X}\tunknown\t/CN=revoked\n"
        );
        std::fs::write(dir.path().join("index.txt"), index).unwrap();
        let der = certificate.der().to_vec();
        Self { dir, issuer: Issuer::new(params, key), der }
    }

    /// A certificate, DER, and its key.
    pub(super) fn leaf(&self, serial: u64, change: impl FnOnce(&mut CertificateParams)) -> (Vec<u8>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["leaf.example".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, format!("leaf {serial}"));
        params.serial_number = Some(SerialNumber::from(serial));
        change(&mut params);
        (params.signed_by(&key, &self.issuer).unwrap().der().to_vec(), key)
    }

    pub(super) fn question(&self, serial: u64) -> Question {
        Question::new(&self.der, &self.leaf(serial, |_| {}).0).unwrap()
    }

    /// A signer of responses other than the CA; the files' names without their ends.
    pub(super) fn signer(&self, name: &str, of: &Ca, change: impl FnOnce(&mut CertificateParams)) -> PathBuf {
        let (der, key) = of.leaf(99, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
            change(params);
        });
        let path = self.dir.path().join(name);
        let pem = der_to_pem(&der);
        std::fs::write(path.with_extension("pem"), pem).unwrap();
        std::fs::write(path.with_extension("key"), key.serialize_pem()).unwrap();
        path
    }

    /// What the responder answers to a request.
    pub(super) fn respond(&self, request: &[u8], signer: Option<&Path>, more: &[&str]) -> Vec<u8> {
        let at = |name: &str| self.dir.path().join(name);
        let signer = signer.map_or_else(|| at("ca"), Path::to_owned);
        // Several may answer at once.
        let turn = tempfile::tempdir_in(self.dir.path()).unwrap();
        let (request_file, response_file) = (turn.path().join("request"), turn.path().join("response"));
        std::fs::write(&request_file, request).unwrap();
        let mut command = Command::new("openssl");
        command.arg("ocsp").arg("-index").arg(at("index.txt")).arg("-CA").arg(at("ca.pem"));
        command.arg("-rsigner").arg(signer.with_extension("pem")).arg("-rkey").arg(signer.with_extension("key"));
        command.arg("-reqin").arg(request_file).arg("-respout").arg(&response_file).args(more);
        let done = command.output().expect("the program openssl is there");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        std::fs::read(response_file).unwrap()
    }
}

fn der_to_pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// authorityInfoAccess with an OCSP responder.
pub(super) fn aia(url: &str) -> CustomExtension {
    let mut access = vec![0x06, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 0x86, url.len() as u8];
    access.extend(url.as_bytes());
    let mut content = vec![0x30, access.len() as u8 + 2, 0x30, access.len() as u8];
    content.extend(access);
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], content)
}
