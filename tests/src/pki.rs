//! A certificate authority of the lab's own (ECDSA P-256), and the certificates it signs.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// An authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key as PEM files.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Chain, leaf first.
    pub chain: PathBuf,
    /// PKCS#8.
    pub key: PathBuf,
}

impl Authority {
    /// A fresh one.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// A certificate for these DNS names and IP addresses, as `NAME.pem` and `NAME.key` in `folder`.
    pub fn issue(&self, folder: &Path, name: &str, subjects: &[&str]) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(subjects.iter().map(|s| (*s).to_string()).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, name);
        let leaf = params.signed_by(&key, &self.issuer)?;
        let identity = Identity { chain: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
        write(&identity.chain, &leaf.pem())?;
        write(&identity.key, &key.serialize_pem())?;
        std::fs::set_permissions(&identity.key, PermissionsExt::from_mode(0o600))?;
        Ok(identity)
    }

    /// Write the authority's own certificate, for `--cacert`.
    pub fn save(&self, file: &Path) -> Result<()> {
        write(file, &self.issuer.pem())
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
        let chain = CertificateDer::pem_file_iter(&self.chain)?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&self.key)?;
        let builder = rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The crypto of the lab's own clients and servers. Two are compiled in, so rustls picks none by itself.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}
