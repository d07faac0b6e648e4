//! OCSP messages (RFC 6960, RFC 9654): a request, and the check of a response. Pure: no I/O, no clock. Whatever the
//! bytes are, nothing here panics.

use der::asn1::{AnyRef, BitStringRef, ContextSpecific, ObjectIdentifier, OctetString};
use der::{Decode as _, Encode as _, Reader as _, SliceReader, Tag, TagNumber, Tagged as _};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tls_worker::api::OcspStatus;
use tls_worker::api::tls::signature_algorithms;
use webpki::{EndEntityCert, KeyUsage, RawPublicKeyEntity};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::builder::OcspRequestBuilder;
use x509_ocsp::ext::Nonce;
use x509_ocsp::{CertId, CertStatus, OcspResponse, OcspResponseStatus, Request, ResponseData, SingleResponse};
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

/// Bytes of a nonce (RFC 9654, 2.1).
pub const NONCE: usize = 32;
/// A responder's clock may differ so much from ours.
const SKEW: Duration = Duration::from_secs(300);
/// A response without `nextUpdate` is good for so long after its `thisUpdate`.
const WITHOUT_NEXT_UPDATE: Duration = Duration::from_secs(3600);
/// Certificates of a response that may be its signer's; more are not looked at.
const MAX_SIGNERS: usize = 8;

const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
const NONCE_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.2");
const AIA_OCSP: &str = "1.3.6.1.5.5.7.48.1";
/// id-kp-OCSPSigning, 1.3.6.1.5.5.7.3.9, content octets.
const OCSP_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];

/// Why a question cannot be asked, or a response not be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A certificate that cannot be asked about, or by.
    #[error("the {which} certificate is not usable for OCSP: {why}")]
    Certificate {
        /// `issuer's` or `asked`.
        which: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Not the DER of an OCSPResponse with a BasicOCSPResponse in it.
    #[error("the response is not well formed: {0}")]
    Malformed(String),
    /// An error of the responder instead of an answer (RFC 6960, 2.3).
    #[error("the responder answers {0}")]
    Refused(&'static str),
    /// Of a type that nobody else uses.
    #[error("the response is of the type {0}, not a basic OCSP response")]
    NotBasic(String),
    /// About somebody else.
    #[error("the response says nothing about the certificate that was asked about")]
    OtherCertificate,
    /// Signed by an algorithm that is not taken, such as one with SHA-1.
    #[error("the response is signed by an algorithm that is not taken")]
    Algorithm,
    /// Signed by nobody who may.
    #[error(
        "the response is signed neither by the issuer nor by a valid certificate that the issuer gave the right to \
         (extended key usage OCSPSigning)"
    )]
    Signer,
    /// The answer to another question.
    #[error("the response has the nonce of another request")]
    Nonce,
    /// An extension that must be understood and is not.
    #[error("the response has a critical extension that is not known: {0}")]
    Critical(String),
    /// Its times are ahead of this host's clock.
    #[error("the response is from the future; check this host's clock")]
    Early,
    /// It was good once.
    #[error("the response is out of date: it held until {0} s after 1970")]
    Late(u64),
}

/// A certificate whose state is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    issuer: Vec<u8>,
    issuer_key: Vec<u8>,
    name_hash: Vec<u8>,
    key_hash: Vec<u8>,
    serial: SerialNumber,
}

/// A response that was believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// Good, revoked or unknown.
    pub status: OcspStatus,
    /// When the responder knew it to be so.
    pub this_update: SystemTime,
    /// Until when it holds.
    pub valid_until: SystemTime,
}

impl Question {
    /// Ask about `certificate`, DER, which `issuer`, DER, signed. That it did is not checked here.
    pub fn new(issuer: &[u8], certificate: &[u8]) -> Result<Self, MessageError> {
        let bad = |which, why: String| MessageError::Certificate { which, why };
        let (_, parsed) = X509Certificate::from_der(issuer).map_err(|e| bad("issuer's", e.to_string()))?;
        let (_, asked) = X509Certificate::from_der(certificate).map_err(|e| bad("asked", e.to_string()))?;
        let hash = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec();
        let key = parsed.public_key();
        Ok(Self {
            issuer: issuer.to_vec(),
            issuer_key: key.raw.to_vec(),
            name_hash: hash(parsed.subject().as_raw()),
            key_hash: hash(&key.subject_public_key.data),
            serial: SerialNumber::new(asked.raw_serial()).map_err(|e| bad("asked", e.to_string()))?,
        })
    }

    /// An OCSPRequest, DER. The CertID is made with SHA-1, as responders know no other (RFC 5019, 2.1.1): nothing
    /// rests on it, for it only names a certificate.
    pub fn request(&self, nonce: &[u8; NONCE]) -> Result<Vec<u8>, MessageError> {
        let encode = |error: der::Error| MessageError::Malformed(error.to_string());
        let octets = |bytes: &[u8]| OctetString::new(bytes).map_err(encode);
        let id = CertId {
            hash_algorithm: AlgorithmIdentifierOwned { oid: SHA1, parameters: Some(AnyRef::NULL.into()) },
            issuer_name_hash: octets(&self.name_hash)?,
            issuer_key_hash: octets(&self.key_hash)?,
            serial_number: self.serial.clone(),
        };
        let nonce = Nonce::new(nonce.as_slice()).map_err(encode)?;
        let builder = OcspRequestBuilder::default().with_request(Request::new(id));
        let builder = builder.with_extension(nonce).map_err(|e| MessageError::Malformed(e.to_string()))?;
        builder.build().to_der().map_err(encode)
    }

    fn is(&self, id: &CertId) -> bool {
        id.hash_algorithm.oid == SHA1
            && id.issuer_name_hash.as_bytes() == self.name_hash
            && id.issuer_key_hash.as_bytes() == self.key_hash
            && id.serial_number == self.serial
    }
}

/// What a response, DER, says about a question at a time.
///
/// The nonce must be ours if the response has one. One without is taken: most responders answer from a store, with no
/// nonce, and what they say is bounded by its time instead. Signed it must be by the issuer, or by a certificate that
/// the issuer signed for it (RFC 6960, 4.2.2.2); whether that one is revoked is not asked.
pub fn check_response(
    bytes: &[u8],
    question: &Question,
    nonce: Option<&[u8; NONCE]>,
    now: SystemTime,
) -> Result<Checked, MessageError> {
    let malformed = |error: der::Error| MessageError::Malformed(error.to_string());
    let response = OcspResponse::from_der(bytes).map_err(malformed)?;
    match response.response_status {
        OcspResponseStatus::Successful => {}
        OcspResponseStatus::MalformedRequest => return Err(MessageError::Refused("malformedRequest")),
        OcspResponseStatus::InternalError => return Err(MessageError::Refused("internalError")),
        OcspResponseStatus::TryLater => return Err(MessageError::Refused("tryLater")),
        OcspResponseStatus::SigRequired => return Err(MessageError::Refused("sigRequired")),
        OcspResponseStatus::Unauthorized => return Err(MessageError::Refused("unauthorized")),
    }
    let inner = response.response_bytes.ok_or_else(|| MessageError::Malformed("it is empty".into()))?;
    if inner.response_type != BASIC {
        return Err(MessageError::NotBasic(inner.response_type.to_string()));
    }
    let basic = Basic::from_der(inner.response.as_bytes()).map_err(malformed)?;
    let data = ResponseData::from_der(basic.data).map_err(malformed)?;
    let single = data.responses.iter().find(|single| question.is(&single.cert_id));
    let single = single.ok_or(MessageError::OtherCertificate)?;
    extensions(&data, single, nonce)?;
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    basic.check_signature(question, UnixTime::since_unix_epoch(since_epoch))?;
    let (this_update, valid_until) = times(&data, single, since_epoch)?;
    let status = match single.cert_status {
        CertStatus::Good(_) => OcspStatus::Good,
        CertStatus::Revoked(_) => OcspStatus::Revoked,
        CertStatus::Unknown(_) => OcspStatus::Unknown,
    };
    Ok(Checked { status, this_update: UNIX_EPOCH + this_update, valid_until: UNIX_EPOCH + valid_until })
}

fn extensions(data: &ResponseData, single: &SingleResponse, nonce: Option<&[u8; NONCE]>) -> Result<(), MessageError> {
    for extension in data.response_extensions.iter().chain(&single.single_extensions).flatten() {
        if extension.extn_id == NONCE_ID {
            let Some(ours) = nonce else { continue };
            let theirs = Nonce::from_der(extension.extn_value.as_bytes()).map_err(|_| MessageError::Nonce)?;
            if theirs.0.as_bytes() != ours {
                return Err(MessageError::Nonce);
            }
        } else if extension.critical {
            return Err(MessageError::Critical(extension.extn_id.to_string()));
        }
    }
    Ok(())
}

/// `thisUpdate`, and until when it holds; since 1970.
fn times(data: &ResponseData, single: &SingleResponse, now: Duration) -> Result<(Duration, Duration), MessageError> {
    let this_update = single.this_update.0.to_unix_duration();
    if this_update > now + SKEW || data.produced_at.0.to_unix_duration() > now + SKEW {
        return Err(MessageError::Early);
    }
    let until = match single.next_update {
        Some(next) => next.0.to_unix_duration(),
        None => this_update + WITHOUT_NEXT_UPDATE,
    };
    // What is late by no more than clocks may differ would be fetched again at once: it is not taken either.
    if until <= now || until < this_update {
        return Err(MessageError::Late(until.as_secs()));
    }
    Ok((this_update, until))
}

/// A BasicOCSPResponse (RFC 6960, 4.2.1), in the bytes that were signed and not in what a parser would write again.
struct Basic<'a> {
    /// ResponseData.
    data: &'a [u8],
    /// Content of the AlgorithmIdentifier.
    algorithm: &'a [u8],
    signature: &'a [u8],
    /// Certificates.
    signers: Vec<&'a [u8]>,
}

impl<'a> Basic<'a> {
    fn from_der(bytes: &'a [u8]) -> der::Result<Self> {
        let mut outer = SliceReader::new(bytes)?;
        let content = AnyRef::decode(&mut outer)?;
        content.tag().assert_eq(Tag::Sequence)?;
        outer.finish(())?;
        let mut reader = SliceReader::new(content.value())?;
        let data = reader.tlv_bytes()?;
        let algorithm = AnyRef::decode(&mut reader)?.value();
        let signature = BitStringRef::decode(&mut reader)?.raw_bytes();
        let certs = ContextSpecific::<AnyRef<'_>>::decode_explicit(&mut reader, TagNumber::N0)?;
        reader.finish(())?;
        let mut signers = Vec::new();
        if let Some(certs) = certs {
            let mut reader = SliceReader::new(certs.value.value())?;
            while !reader.is_finished() && signers.len() < MAX_SIGNERS {
                signers.push(reader.tlv_bytes()?);
            }
        }
        Ok(Self { data, algorithm, signature, signers })
    }

    fn check_signature(&self, question: &Question, now: UnixTime) -> Result<(), MessageError> {
        let known = signature_algorithms();
        // One identifier may stand for several: ECDSA is tried with each curve.
        let fitting: Vec<_> =
            known.all.iter().filter(|one| one.signature_alg_id().as_ref() == self.algorithm).collect();
        if fitting.is_empty() {
            return Err(MessageError::Algorithm);
        }
        let key = SubjectPublicKeyInfoDer::from(question.issuer_key.as_slice());
        if let Ok(key) = RawPublicKeyEntity::try_from(&key)
            && fitting.iter().any(|one| key.verify_signature(**one, self.data, self.signature).is_ok())
        {
            return Ok(());
        }
        let issuer = CertificateDer::from(question.issuer.as_slice());
        let Ok(anchor) = webpki::anchor_from_trusted_cert(&issuer) else { return Err(MessageError::Signer) };
        let anchors = [anchor];
        for der in &self.signers {
            let der = CertificateDer::from(*der);
            let Ok(signer) = EndEntityCert::try_from(&der) else { continue };
            let signed = fitting.iter().any(|one| signer.verify_signature(**one, self.data, self.signature).is_ok());
            let usage = KeyUsage::required(OCSP_SIGNING);
            if signed && signer.verify_for_usage(known.all, &anchors, &[], now, usage, None, None).is_ok() {
                return Ok(());
            }
        }
        Err(MessageError::Signer)
    }
}

/// The responder that a certificate, DER, names for itself (authorityInfoAccess, RFC 5280, 4.2.2.1): the first that
/// can be asked over HTTP.
pub fn responder_url(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let aia = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(aia) => Some(aia),
        _ => None,
    })?;
    let urls = aia.accessdescs.iter().filter(|access| access.access_method.to_id_string() == AIA_OCSP);
    let mut urls = urls.filter_map(|access| match &access.access_location {
        GeneralName::URI(url) => Some((*url).to_owned()),
        _ => None,
    });
    urls.find(|url| url.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://")))
}
