//! Authorities and certificates for tests.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// A certificate that signs others, and its key.
pub(crate) struct Authority {
    pub(crate) certificate: rcgen::Certificate,
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        let (params, key) = (authority(name), KeyPair::generate().unwrap());
        Self { certificate: params.self_signed(&key).unwrap(), params, key }
    }

    pub(crate) fn under(&self, name: &str) -> Self {
        let (params, key) = (authority(name), KeyPair::generate().unwrap());
        Self { certificate: params.signed_by(&key, &self.issuer()).unwrap(), params, key }
    }

    /// A server's certificate; its common name is the first of the names.
    pub(crate) fn leaf(&self, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        self.leaf_with(names, |_| {})
    }

    pub(crate) fn leaf_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (rcgen::Certificate, KeyPair) {
        let mut params = params(names[0], names);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer()).unwrap(), key)
    }

    pub(crate) fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

pub(crate) fn der(certificate: &rcgen::Certificate) -> Vec<u8> {
    certificate.der().to_vec()
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(name: &str, names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params
}
