//! A certificate authority made for a test, with clients' certificates and revocation lists. The unit tests take this
//! file, too.

#![allow(dead_code, reason = "neither the unit tests nor the worker's use all of it")]

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

static NEXT_SERIAL: AtomicU64 = AtomicU64::new(1000);

/// An authority.
pub(crate) struct Ca {
    pub(crate) der: Vec<u8>,
    pub(crate) serial: u64,
    /// Authorities between it and its root, the nearest first.
    pub(crate) above: Vec<Vec<u8>>,
    is_root: bool,
    params: CertificateParams,
    key: KeyPair,
}

/// A client's certificate, to be.
pub(crate) struct Leaf {
    pub(crate) params: CertificateParams,
    pub(crate) serial: u64,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// Good for servers, and not for clients.
    pub(crate) for_servers: bool,
}

/// A client's certificate with its key, PKCS#8.
pub(crate) struct Issued {
    pub(crate) der: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

/// So many hours from now.
pub(crate) fn hour(n: i64) -> SystemTime {
    let hours = Duration::from_secs(n.unsigned_abs() * 3600);
    if n < 0 { SystemTime::now() - hours } else { SystemTime::now() + hours }
}

fn authority(name: &str) -> (CertificateParams, KeyPair, u64) {
    let serial = NEXT_SERIAL.fetch_add(1, Ordering::Relaxed);
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from(serial));
    (params, KeyPair::generate().unwrap(), serial)
}

impl Ca {
    /// A root of this common name.
    pub(crate) fn new(name: &str) -> Ca {
        let (params, key, serial) = authority(name);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Ca { der, serial, above: vec![], is_root: true, params, key }
    }

    /// An authority that this one vouches for.
    pub(crate) fn below(&self, name: &str) -> Ca {
        let (params, key, serial) = authority(name);
        let der = params.signed_by(&key, &self.issuer()).unwrap().der().to_vec();
        // A root is nobody's intermediate.
        let mut above = vec![];
        if !self.is_root {
            above.push(self.der.clone());
            above.extend(self.above.iter().cloned());
        }
        Ca { der, serial, above, is_root: false, params, key }
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// A client's certificate of this authority; `change` says what is unusual about it.
    pub(crate) fn issue(&self, change: impl FnOnce(&mut Leaf)) -> Issued {
        let key = KeyPair::generate().unwrap();
        let params = prepare(change);
        Issued { der: params.signed_by(&key, &self.issuer()).unwrap().der().to_vec(), key: key.serialize_der() }
    }

    /// The same without its key.
    pub(crate) fn leaf(&self, change: impl FnOnce(&mut Leaf)) -> Vec<u8> {
        self.issue(change).der
    }

    /// A list that revokes these serial numbers.
    pub(crate) fn crl(&self, serials: &[u64], this_update: SystemTime, next_update: SystemTime) -> Vec<u8> {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: this_update.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: this_update.into(),
            next_update: next_update.into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer()).unwrap().der().to_vec()
    }
}

/// A certificate that nobody vouches for but itself.
pub(crate) fn self_signed(change: impl FnOnce(&mut Leaf)) -> Issued {
    let key = KeyPair::generate().unwrap();
    Issued { der: prepare(change).self_signed(&key).unwrap().der().to_vec(), key: key.serialize_der() }
}

fn prepare(change: impl FnOnce(&mut Leaf)) -> CertificateParams {
    let mut leaf = Leaf {
        params: CertificateParams::default(),
        serial: NEXT_SERIAL.fetch_add(1, Ordering::Relaxed),
        not_before: hour(-24),
        not_after: hour(24),
        for_servers: false,
    };
    leaf.params.distinguished_name = rcgen::DistinguishedName::new();
    leaf.params.distinguished_name.push(DnType::CommonName, "client");
    leaf.params.subject_alt_names = vec![SanType::Rfc822Name("client@a.test".try_into().unwrap())];
    change(&mut leaf);
    let usage =
        if leaf.for_servers { ExtendedKeyUsagePurpose::ServerAuth } else { ExtendedKeyUsagePurpose::ClientAuth };
    leaf.params.extended_key_usages = vec![usage];
    leaf.params.serial_number = Some(SerialNumber::from(leaf.serial));
    (leaf.params.not_before, leaf.params.not_after) = (leaf.not_before.into(), leaf.not_after.into());
    leaf.params
}
