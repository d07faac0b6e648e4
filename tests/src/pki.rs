//! Certificate authorities of the lab's own (ECDSA P-256), what they sign, and what they revoke.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// An authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// What stands between its certificates and the root, in PEM, its own certificate first. Empty: it is a root.
    chain: String,
}

/// A certificate and its key as PEM files.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Chain, leaf first, without the root.
    pub chain: PathBuf,
    /// PKCS#8.
    pub key: PathBuf,
    /// Of the leaf; 16 bytes.
    pub serial: Vec<u8>,
}

/// Kinds of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA
    P256,
    /// ECDSA
    P384,
    /// RSA of 2048 bits
    Rsa,
}

/// What a certificate is to be like.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    /// DNS names and IP addresses.
    pub subjects: &'a [&'a str],
    /// Its key.
    pub key: KeyKind,
    /// What the key may be used for.
    pub usage: ExtendedKeyUsagePurpose,
    /// Begin and end of its validity, days from now.
    pub days: (i32, i32),
    /// URL of the OCSP responder that it names.
    pub responder: Option<&'a str>,
}

impl Default for Order<'_> {
    fn default() -> Self {
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        Order { subjects: &[], key: KeyKind::P256, usage, days: (-1, 90), responder: None }
    }
}

impl Order<'_> {
    /// A client's.
    pub fn client() -> Self {
        Order { usage: ExtendedKeyUsagePurpose::ClientAuth, ..Self::default() }
    }
}

impl Authority {
    /// A fresh root.
    pub fn new(name: &str) -> Result<Self> {
        Ok(Self { issuer: CertifiedIssuer::self_signed(authority(name)?, KeyPair::generate()?)?, chain: String::new() })
    }

    /// An authority that this one signs.
    pub fn below(&self, name: &str) -> Result<Self> {
        let issuer = CertifiedIssuer::signed_by(authority(name)?, KeyPair::generate()?, &self.issuer)?;
        let chain = issuer.pem() + &self.chain;
        Ok(Self { issuer, chain })
    }

    /// A server's certificate for these DNS names and IP addresses, as `NAME.pem` and `NAME.key` in `folder`.
    pub fn issue(&self, folder: &Path, name: &str, subjects: &[&str]) -> Result<Identity> {
        self.order(folder, name, &Order { subjects, ..Order::default() })
    }

    /// A certificate with this common name, as `NAME.pem` and `NAME.key` in `folder`.
    pub fn order(&self, folder: &Path, name: &str, order: &Order<'_>) -> Result<Identity> {
        let key = match order.key {
            KeyKind::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
            KeyKind::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?,
            KeyKind::Rsa => KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)?,
        };
        let mut params = CertificateParams::new(order.subjects.iter().map(|s| (*s).to_string()).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = (days(order.days.0).into(), days(order.days.1).into());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![order.usage.clone()];
        params.use_authority_key_identifier_extension = true;
        params.custom_extensions.extend(order.responder.map(responder_access));
        let serial = serial()?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let leaf = params.signed_by(&key, &self.issuer)?;
        let identity =
            Identity { chain: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")), serial };
        write(&identity.chain, &(leaf.pem() + &self.chain))?;
        write_key(&identity.key, &key)?;
        Ok(identity)
    }

    /// A revocation list in PEM that names these serial numbers and holds for so many days; negative: it is past.
    pub fn revoke(&self, serials: &[&[u8]], until: i32) -> Result<String> {
        let revoked = |serial: &&[u8]| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: days(-30).into(),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: days(-30).into(),
            next_update: days(until).into(),
            crl_number: SerialNumber::from_slice(&serial()?),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }

    /// Its own certificate, PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Write the authority's own certificate, for `--cacert`.
    pub fn save(&self, file: &Path) -> Result<()> {
        write(file, &self.pem())
    }

    /// Write its key, PKCS#8, for programs that sign in its name.
    pub fn save_key(&self, file: &Path) -> Result<()> {
        write_key(file, self.issuer.key())
    }

    /// What a client that trusts only this authority trusts.
    pub fn roots(&self) -> Result<Arc<RootCertStore>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        Ok(Arc::new(roots))
    }
}

impl Identity {
    /// A TLS server of a test's own with this certificate, for HTTP/1.1.
    pub fn server(&self) -> Result<Arc<rustls::ServerConfig>> {
        let builder = rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_single_cert(self.certificates()?, self.private_key()?)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The chain.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        Ok(CertificateDer::pem_file_iter(&self.chain)?.collect::<Result<_, _>>()?)
    }

    /// The key.
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>> {
        Ok(PrivateKeyDer::from_pem_file(&self.key)?)
    }
}

/// The crypto of the lab's own clients and servers. Two are compiled in, so rustls picks none by itself.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// So many days from now.
pub fn days(days: i32) -> SystemTime {
    let span = DAY * days.unsigned_abs();
    if days < 0 { SystemTime::now() - span } else { SystemTime::now() + span }
}

fn authority(name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (days(-1).into(), days(3650).into());
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from_slice(&serial()?));
    Ok(params)
}

/// Positive, and of full length.
fn serial() -> Result<Vec<u8>> {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).ok().context("no random numbers")?;
    serial[0] = serial[0] & 0x3f | 0x40;
    Ok(serial.to_vec())
}

/// Authority Information Access with one `id-ad-ocsp` (RFC 5280, 4.2.2.1). Lengths of one byte suffice for a URL of the
/// lab.
fn responder_access(url: &str) -> CustomExtension {
    const OCSP: [u8; 10] = [6, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1];
    let head = |tag: u8, length: usize| [tag, length as u8];
    let name = [&head(0x86, url.len())[..], url.as_bytes()].concat();
    let description = [&head(0x30, OCSP.len() + name.len())[..], &OCSP, &name].concat();
    let content = [&head(0x30, description.len())[..], &description].concat();
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], content)
}

fn write_key(file: &Path, key: &KeyPair) -> Result<()> {
    write(file, &key.serialize_pem())?;
    Ok(std::fs::set_permissions(file, PermissionsExt::from_mode(0o600))?)
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::finish;

    #[test]
    fn openssl_reads_what_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let root = Authority::new("root").unwrap();
        root.save(&folder.path().join("root.pem")).unwrap();
        let middle = root.below("middle").unwrap();
        let order = Order { key: KeyKind::Rsa, responder: Some("http://127.0.0.1:1/x"), ..Order::client() };
        let made = middle.order(folder.path(), "leaf", &order).unwrap();
        std::fs::write(folder.path().join("list.pem"), middle.revoke(&[&made.serial], 1).unwrap()).unwrap();
        let openssl = |words: &str| {
            let words = words.split(' ');
            finish(std::process::Command::new("openssl").args(words).current_dir(folder.path()))
        };
        assert!(openssl("verify -CAfile root.pem -untrusted leaf.pem leaf.pem").unwrap().contains("OK"));
        let said = openssl("x509 -in leaf.pem -noout -ocsp_uri -serial").unwrap().to_lowercase();
        assert!(said.contains("http://127.0.0.1:1/x") && said.contains(&crate::backend::hex(&made.serial)), "{said}");
        let list = openssl("crl -in list.pem -noout -text").unwrap().to_lowercase();
        assert!(list.contains(&crate::backend::hex(&made.serial)), "{list}");
    }
}
