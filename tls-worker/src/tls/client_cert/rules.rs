//! What a policy asks of clients' certificates, made ready: authorities as trust anchors, revocation lists parsed.

use crate::api::{ClientCertHeader, ClientCertMode, ClientCertRules, Der, ExpiredCrl, OcspMode};
use crate::tls::TlsError;
use http::HeaderName;
use rustls::DistinguishedName;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::{CertRevocationList, OwnedCertRevocationList, anchor_from_trusted_cert};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

/// Longest list of names that is sent with a CertificateRequest, bytes; TLS has room for 2^16-1 (RFC 8446, 4.2.4). Over
/// that none is sent, and a client offers what it has.
const MAX_HINTS: usize = 60 << 10;

/// [`ClientCertRules`], ready.
#[derive(Debug)]
pub(crate) struct ClientAuth {
    pub(super) mode: ClientCertMode,
    /// As given; `anchors` in the same order.
    pub(super) roots: Vec<Der>,
    pub(super) anchors: Vec<TrustAnchor<'static>>,
    /// The newest first: of several of one issuer the first counts.
    pub(super) crls: Vec<CertRevocationList<'static>>,
    pub(super) expired_crl: ExpiredCrl,
    pub(super) depth: usize,
    pub(super) ocsp: OcspMode,
    pub(super) responder: Option<String>,
    /// Subjects of the roots, for CertificateRequest.
    pub(super) hints: Vec<DistinguishedName>,
}

impl ClientAuth {
    pub(crate) fn new(rules: &ClientCertRules) -> Result<Self, TlsError> {
        if rules.roots.is_empty() && rules.mode != ClientCertMode::OptionalAny {
            return Err(TlsError::NoClientCa);
        }
        let anchor = |(index, root): (usize, &Der)| {
            let der = CertificateDer::from(root.0.as_slice());
            let anchor = anchor_from_trusted_cert(&der).map_err(|error| TlsError::ClientCa { index, error })?;
            Ok(anchor.to_owned())
        };
        let anchors = rules.roots.iter().enumerate().map(anchor).collect::<Result<Vec<_>, TlsError>>()?;
        let crl = |(index, crl): (usize, &Der)| {
            let parsed = OwnedCertRevocationList::from_der(&crl.0);
            Ok((this_update(&crl.0), parsed.map_err(|error| TlsError::Crl { index, error })?.into()))
        };
        let mut crls = rules.crls.iter().enumerate().map(crl).collect::<Result<Vec<_>, TlsError>>()?;
        crls.sort_by_key(|(this_update, _)| std::cmp::Reverse(*this_update));
        let mut hints: Vec<_> = anchors.iter().map(|a| DistinguishedName::in_sequence(a.subject.as_ref())).collect();
        if hints.iter().map(|name| name.as_ref().len() + 2).sum::<usize>() > MAX_HINTS {
            hints.clear();
        }
        Ok(ClientAuth {
            mode: rules.mode,
            roots: rules.roots.clone(),
            anchors,
            crls: crls.into_iter().map(|(_, crl)| crl).collect(),
            expired_crl: rules.expired_crl,
            depth: rules.depth.into(),
            ocsp: rules.ocsp,
            responder: rules.ocsp_responder.clone(),
            hints,
        })
    }
}

/// When a list was made, seconds since 1970; one that says nothing readable is older than any.
fn this_update(crl: &[u8]) -> i64 {
    CertificateRevocationList::from_der(crl).map_or(i64::MIN, |(_, crl)| crl.last_update().timestamp())
}

/// See that rules for clients' certificates can be kept: what the control plane asks before it takes a config. The error
/// says which root or list is wrong.
pub fn client_cert_rules(rules: &ClientCertRules) -> Result<(), TlsError> {
    ClientAuth::new(rules).map(|_| ())
}

/// What frames, addresses or authorises a message, or says what the edge knows of the client: without it, or with another
/// value, the message would not arrive as what it is.
const RESERVED: [&str; 16] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// The header that backends are told a part of a certificate in. The error says why it cannot be.
pub fn client_cert_header(header: &ClientCertHeader) -> Result<HeaderName, TlsError> {
    let name = HeaderName::try_from(&header.name).map_err(|_| TlsError::HeaderName(header.name.clone()))?;
    match RESERVED.contains(&name.as_str()) {
        true => Err(TlsError::HeaderReserved(header.name.clone())),
        false => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ca::{Ca, hour};
    use super::super::tests::rules;
    use super::*;

    #[test]
    fn what_is_no_authority_and_no_list_is_named_by_its_place() {
        let ca = Ca::new("ca");
        let good = rules(&[&ca]);
        client_cert_rules(&good).unwrap();
        let said = |change: fn(&mut ClientCertRules)| {
            let mut rules = good.clone();
            change(&mut rules);
            client_cert_rules(&rules).unwrap_err().to_string()
        };
        assert!(said(|r| r.roots.push(Der(vec![1, 2, 3]))).starts_with("certificate authority 1 "));
        assert!(said(|r| r.crls.push(Der(vec![1, 2, 3]))).starts_with("revocation list 0 "));
        assert!(said(|r| r.roots.clear()).contains("no certificate authority"));
        let any = ClientCertRules { roots: vec![], mode: ClientCertMode::OptionalAny, ..good.clone() };
        client_cert_rules(&any).unwrap();
    }

    #[test]
    fn the_newest_list_of_an_issuer_goes_first() {
        let ca = Ca::new("ca");
        let crl = |serial, made| Der(ca.crl(&[serial], hour(made), hour(1)));
        let (old, new) = (crl(1, -3), crl(2, -2));
        for crls in [vec![old.clone(), new.clone()], vec![new, old]] {
            let ready = ClientAuth::new(&ClientCertRules { crls, ..rules(&[&ca]) }).unwrap();
            assert!(ready.crls[0].find_serial(&[2]).unwrap().is_some());
        }
    }

    #[test]
    fn more_names_than_tls_has_room_for_are_not_sent() {
        let ca = Ca::new("ca");
        let many = |n| ClientAuth::new(&rules(&vec![&ca; n])).unwrap().hints.len();
        assert_eq!((many(100), many(5000)), (100, 0));
    }
}
