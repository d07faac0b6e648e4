//! What can be wrong with a client's certificate, in the words of counters, of alerts and of backends.

use crate::stats::ClientCert;
use rustls::CertificateError;
use webpki::Error;

/// Why a certificate is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It comes from nobody who is trusted.
    UnknownCa,
    /// It, or one above it, is too old or too new.
    Expired,
    /// A list or the responder says that it, or one above it, is revoked.
    Revoked,
    /// The list that would decide is too old.
    CrlExpired,
    /// The responder had to be heard, and was not, or does not know it.
    OcspUnavailable,
    /// Anything else: not for clients, a chain that is too long, a form that is not understood.
    Bad,
}

impl Fault {
    /// As webpki found it.
    pub(super) fn of(error: &Error) -> Fault {
        match error {
            // A root of this name there is, but its key did not sign.
            Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => Fault::UnknownCa,
            Error::CertExpired { .. } | Error::CertNotValidYet { .. } | Error::InvalidCertValidity => Fault::Expired,
            Error::CertRevoked => Fault::Revoked,
            Error::CrlExpired { .. } => Fault::CrlExpired,
            _ => Fault::Bad,
        }
    }

    /// The word for it.
    pub(super) fn word(self) -> &'static str {
        ClientCert::NAMES[usize::from(ClientCert::from(self))]
    }
}

impl From<Fault> for ClientCert {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::UnknownCa => ClientCert::UnknownCa,
            Fault::Expired => ClientCert::Expired,
            Fault::Revoked => ClientCert::Revoked,
            Fault::CrlExpired => ClientCert::CrlExpired,
            Fault::OcspUnavailable => ClientCert::OcspUnavailable,
            Fault::Bad => ClientCert::Bad,
        }
    }
}

/// What rustls makes an alert of: unknown_ca, certificate_expired, certificate_revoked, unsupported_certificate or
/// bad_certificate (RFC 8446, 6.2).
pub(super) fn certificate_error(error: &Error) -> CertificateError {
    match Fault::of(error) {
        Fault::UnknownCa => CertificateError::UnknownIssuer,
        Fault::Expired => CertificateError::Expired,
        Fault::Revoked => CertificateError::Revoked,
        Fault::CrlExpired => CertificateError::ExpiredRevocationList,
        Fault::OcspUnavailable => CertificateError::UnknownRevocationStatus,
        Fault::Bad if matches!(error, Error::RequiredEkuNotFoundContext(_)) => CertificateError::InvalidPurpose,
        Fault::Bad => CertificateError::BadEncoding,
    }
}
