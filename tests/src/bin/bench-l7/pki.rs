//! One authority and the two leaf certificates that every edge serves: P-256 and RSA-2048, both for `localhost`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::RootCertStore;

/// Name in both certificates, in SNI and in Host.
pub(crate) const NAME: &str = "localhost";

/// Files of a certificate.
pub(crate) struct Leaf {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    /// Both in one file, as HAProxy wants them.
    pub(crate) both: PathBuf,
}

/// What the lab's TLS stands on.
pub(crate) struct Pki {
    pub(crate) p256: Leaf,
    pub(crate) rsa: Leaf,
    pub(crate) roots: RootCertStore,
}

impl Pki {
    pub(crate) fn new(directory: &Path) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "bench authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone())?;
        Ok(Self {
            p256: leaf(directory, "p256", &authority, &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)?,
            rsa: leaf(directory, "rsa", &authority, &rsa_key(directory)?)?,
            roots,
        })
    }
}

fn leaf(directory: &Path, name: &str, authority: &CertifiedIssuer<'_, KeyPair>, key: &KeyPair) -> Result<Leaf> {
    let mut params = CertificateParams::new(vec![NAME.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, format!("bench {name}"));
    let chain = params.signed_by(key, authority)?.pem();
    let key = key.serialize_pem();
    let file = |end: &str, text: &str| -> Result<PathBuf> {
        let path = directory.join(format!("{name}.{end}"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };
    Ok(Leaf { chain: file("crt", &chain)?, key: file("key", &key)?, both: file("pem", &format!("{chain}{key}"))? })
}

/// ring signs with RSA keys but makes none.
fn rsa_key(directory: &Path) -> Result<KeyPair> {
    let path = directory.join("rsa.generated");
    let made = Command::new("openssl")
        .args(["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"])
        .arg(&path)
        .output()
        .context("cannot run openssl; `cargo xtask setup` installs it")?;
    if !made.status.success() {
        bail!("openssl genpkey failed: {}", String::from_utf8_lossy(&made.stderr));
    }
    KeyPair::from_pem(&fs::read_to_string(&path)?).context("openssl's RSA key is not understood")
}
