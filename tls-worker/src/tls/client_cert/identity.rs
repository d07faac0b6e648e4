//! The certificate of one connection: its chain, what it is worth, and its headers, each made when first asked for.

use super::fault::Fault;
use super::field;
use crate::api::ClientCertField;
use http::HeaderValue;
use rustls_pki_types::CertificateDer;
use std::cell::OnceCell;

/// Longest value of a header, bytes. A certificate, or a chain, that needs more is not told of: backends refuse longer
/// headers, and with them the whole request.
const MAX_VALUE: usize = 16 << 10;
/// Fields that there are.
const FIELDS: usize = ClientCertField::Verify as usize + 1;

/// See the module.
#[derive(Debug)]
pub(super) struct ClientIdentity {
    /// Leaf first, as the client sent it; never empty.
    chain: Vec<CertificateDer<'static>>,
    /// None: verified.
    fault: Option<Fault>,
    /// By field.
    values: [OnceCell<Option<HeaderValue>>; FIELDS],
}

impl ClientIdentity {
    /// Of a chain that was verified.
    pub(super) fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        ClientIdentity { chain, fault: None, values: Default::default() }
    }

    /// The same, found not to be good.
    pub(super) fn with_fault(self, fault: Fault) -> Self {
        ClientIdentity { chain: self.chain, fault: Some(fault), values: Default::default() }
    }

    /// A part of it, as a header's value.
    pub(super) fn header(&self, field: ClientCertField) -> Option<HeaderValue> {
        self.values[field as usize].get_or_init(|| self.make(field)).clone()
    }

    fn make(&self, field: ClientCertField) -> Option<HeaderValue> {
        let verify = self.fault.map_or("SUCCESS".to_owned(), |fault| format!("FAILED:{}", fault.word()));
        let text = field::text(field, &self.chain, &verify)?;
        if text.len() > MAX_VALUE {
            tracing::debug!(?field, bytes = text.len(), "a client certificate is too long for a header");
            return None;
        }
        HeaderValue::try_from(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(bytes: usize) -> ClientIdentity {
        ClientIdentity::new(vec![vec![0; bytes].into()])
    }

    #[test]
    fn what_is_too_long_for_a_header_is_left_out() {
        assert!(identity(12_000).header(ClientCertField::Rfc9440).is_some());
        assert_eq!(identity(13_000).header(ClientCertField::Rfc9440), None);
    }

    #[test]
    fn the_verdict_is_told_with_its_reason() {
        assert_eq!(identity(1).header(ClientCertField::Verify).unwrap(), "SUCCESS");
        let expired = identity(1).with_fault(Fault::Expired);
        assert_eq!(expired.header(ClientCertField::Verify).unwrap(), "FAILED:expired");
        assert_eq!(expired.header(ClientCertField::Subject), None);
    }
}
