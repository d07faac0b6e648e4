//! Parts of a certificate as the value of a header, each as its origin writes it. Whatever a certificate says, the value
//! is printable ASCII on one line.

use crate::api::ClientCertField;
use crate::tls::provider;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use x509_cert::der::Decode as _;
use x509_cert::name::RdnSequence;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use x509_parser::time::ASN1Time;

/// Length of a PEM line (RFC 7468, 2).
const PEM_LINE: usize = 64;

/// The value of a header for a chain of certificates, leaf first, that was verified: what a backend is told. None: there is
/// nothing to tell.
pub fn client_cert_value(field: ClientCertField, chain: &[crate::api::Der]) -> Option<String> {
    let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.0.as_slice())).collect();
    text(field, &chain, "SUCCESS")
}

/// A part of a chain, leaf first; `verify` is its verdict. None where the certificate has no such part, or none that can
/// be read.
pub(super) fn text(field: ClientCertField, chain: &[CertificateDer<'_>], verify: &str) -> Option<String> {
    let (leaf, rest) = chain.split_first()?;
    let parsed = || X509Certificate::from_der(leaf).ok().map(|(_, certificate)| certificate);
    match field {
        ClientCertField::Pem => Some(pem(leaf, " ")),
        ClientCertField::PemUrlencoded => Some(percent_encoded(&(pem(leaf, "\n") + "\n"))),
        ClientCertField::Rfc9440 => Some(byte_sequence(leaf)),
        ClientCertField::Rfc9440Chain if rest.is_empty() => None,
        ClientCertField::Rfc9440Chain => Some(rest.iter().map(byte_sequence).collect::<Vec<_>>().join(", ")),
        ClientCertField::Subject => distinguished_name(parsed()?.subject().as_raw()),
        ClientCertField::Issuer => distinguished_name(parsed()?.issuer().as_raw()),
        ClientCertField::Serial => Some(serial(parsed()?.raw_serial())),
        ClientCertField::Fingerprint => Some(hex(&provider::sha256(&[leaf]))),
        ClientCertField::FingerprintSha1 => Some(hex(provider::sha1(leaf).as_ref())),
        ClientCertField::NotBefore => Some(rfc3339(parsed()?.validity().not_before)),
        ClientCertField::NotAfter => Some(rfc3339(parsed()?.validity().not_after)),
        ClientCertField::San => alternative_names(&parsed()?),
        ClientCertField::Verify => Some(verify.to_owned()),
    }
}

fn pem(der: &[u8], line_break: &str) -> String {
    let body = STANDARD.encode(der);
    let mut out = String::with_capacity(body.len() + body.len() / PEM_LINE + 64);
    out.push_str("-----BEGIN CERTIFICATE-----");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(PEM_LINE.min(rest.len()));
        out.push_str(line_break);
        out.push_str(line);
        rest = after;
    }
    out.push_str(line_break);
    out.push_str("-----END CERTIFICATE-----");
    out
}

/// RFC 3986, 2.1: all but unreserved characters.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 5 / 4);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => push(&mut out, format_args!("%{byte:02X}")),
        }
    }
    out
}

/// RFC 8941, 3.3.5; in a list (3.1) for chains (RFC 9440, 2.3).
fn byte_sequence(der: &CertificateDer<'_>) -> String {
    format!(":{}:", STANDARD.encode(der))
}

/// RFC 4514, and what is not ASCII in its hexadecimal form, so that no backend has to guess at a character set.
fn distinguished_name(der: &[u8]) -> Option<String> {
    let name = RdnSequence::from_der(der).ok()?.to_string();
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii() { out.push(byte.into()) } else { push(&mut out, format_args!("\\{byte:02x}")) }
    }
    Some(out)
}

/// Without the zero that DER puts in front of a high bit.
fn serial(raw: &[u8]) -> String {
    let significant = raw.iter().position(|byte| *byte != 0).unwrap_or(raw.len().saturating_sub(1));
    hex(&raw[significant..]).to_ascii_uppercase()
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    bytes.iter().for_each(|byte| push(&mut out, format_args!("{byte:02x}")));
    out
}

fn rfc3339(time: ASN1Time) -> String {
    let t = time.to_datetime();
    let (month, day) = (u8::from(t.month()), t.day());
    format!("{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", t.year(), t.hour(), t.minute(), t.second())
}

/// Names of kinds that the contract does not list are left out.
fn alternative_names(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = &certificate.subject_alternative_name().ok()??.value.general_names;
    let texts: Vec<String> = names.iter().filter_map(alternative_name).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

fn alternative_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(format!("DNS:{}", escaped(name))),
        GeneralName::RFC822Name(name) => Some(format!("email:{}", escaped(name))),
        GeneralName::URI(name) => Some(format!("URI:{}", escaped(name))),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(format!("IP:{}", Ipv4Addr::from(v4))),
            Err(_) => Some(format!("IP:{}", Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?))),
        },
        _ => None,
    }
}

/// The escapes of RFC 4514, so that no name can pass for two: a comma in a name is `\,`, a space `\20`.
fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b',' | b'\\' | b'"' => out.extend(['\\', byte.into()]),
            b'!'..=b'~' => out.push(byte.into()),
            _ => push(&mut out, format_args!("\\{byte:02x}")),
        }
    }
    out
}

fn push(to: &mut String, text: std::fmt::Arguments<'_>) {
    // A String takes everything.
    let _ = to.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::super::ca::Ca;
    use super::*;
    use crate::api::ALL_CLIENT_CERT_FIELDS;
    use proptest::prelude::*;
    use rcgen::{DnType, SanType};

    /// Every field.
    /// The example of RFC 9440, appendix A: a leaf (figure 1) and its header (figure 4).
    const RFC_9440_LEAF: &str = "MIIBqDCCAU6gAwIBAgIBBzAKBggqhkjOPQQDAjA6MRswGQYDVQQKDBJMZXQncyBBdXRoZW50aWNhdGUxGzAZBgNV\
        BAMMEkxBIEludGVybWVkaWF0ZSBDQTAeFw0yMDAxMTQyMjU1MzNaFw0yMTAxMjMyMjU1MzNaMA0xCzAJBgNVBAMMAkJDMFkwEwYHKoZIzj0CAQYI\
        KoZIzj0DAQcDQgAE8YnXXfaUgmnMtOXU/IncWalRhebrXmckC8vdgJ1p5Be5F/3YC8OthxM4+k1M6aEAEFcGzkJiNy6J84y7uzo9M6NyMHAwCQYD\
        VR0TBAIwADAfBgNVHSMEGDAWgBRm3WjLa38lbEYCuiCPct0ZaSED2DAOBgNVHQ8BAf8EBAMCBsAwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR0R\
        AQH/BBMwEYEPYmRjQGV4YW1wbGUuY29tMAoGCCqGSM49BAMCA0gAMEUCIBHda/r1vaL6G3VliL4/Di6YK0Q6bMjeSkC3dFCOOB8TAiEAx/kHSB4u\
        rmiZ0NX5r5XarmPk0wmuydBVoU4hBVZ1yhk=";

    fn of(field: ClientCertField, chain: &[&[u8]]) -> Option<String> {
        let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(*der)).collect();
        text(field, &chain, "SUCCESS")
    }

    #[test]
    fn the_certificate_of_rfc_9440_is_told_as_written_there() {
        let der = STANDARD.decode(RFC_9440_LEAF).unwrap();
        let told = |field| of(field, &[&der]).unwrap_or_default();
        assert_eq!(told(ClientCertField::Rfc9440), format!(":{RFC_9440_LEAF}:"));
        assert_eq!(told(ClientCertField::Rfc9440Chain), "");
        assert_eq!(told(ClientCertField::Subject), "CN=BC");
        assert_eq!(told(ClientCertField::Issuer), "CN=LA Intermediate CA,O=Let's Authenticate");
        assert_eq!(told(ClientCertField::Serial), "07");
        assert_eq!(told(ClientCertField::NotBefore), "2020-01-14T22:55:33Z");
        assert_eq!(told(ClientCertField::NotAfter), "2021-01-23T22:55:33Z");
        assert_eq!(told(ClientCertField::San), "email:bdc@example.com");
        assert_eq!(told(ClientCertField::Verify), "SUCCESS");
        let chain = of(ClientCertField::Rfc9440Chain, &[&der, b"\x01", b"\x02\x03"]).unwrap();
        assert_eq!(chain, ":AQ==:, :AgM=:");
        // What openssl x509 -fingerprint says, without its colons.
        assert_eq!(
            told(ClientCertField::Fingerprint),
            "bfaf1f7e070f9fa8dd62905f158da73f84a1136624fbafcc9393c8f7287a69eb"
        );
        assert_eq!(told(ClientCertField::FingerprintSha1), "ca083f269fb4fc71920e94070eaacb731929e6f9");
    }

    #[test]
    fn pem_stands_on_one_line_or_percent_encoded() {
        let der: Vec<u8> = (0..80).collect();
        let lines = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4v|\
            MDEyMzQ1Njc4OTo7PD0+P0BBQkNERUZHSElKS0xNTk8=";
        let one_line = format!("-----BEGIN CERTIFICATE----- {} -----END CERTIFICATE-----", lines.replace('|', " "));
        assert_eq!(of(ClientCertField::Pem, &[&der]).unwrap(), one_line);
        let body = lines.replace('|', "%0A").replace('+', "%2B").replace('=', "%3D");
        let encoded = format!("-----BEGIN%20CERTIFICATE-----%0A{body}%0A-----END%20CERTIFICATE-----%0A");
        assert_eq!(of(ClientCertField::PemUrlencoded, &[&der]).unwrap(), encoded);
    }

    #[test]
    fn serial_numbers_are_as_long_as_they_must_be() {
        for (raw, want) in [(&[0, 0xab, 1][..], "AB01"), (&[0], "00"), (&[5], "05"), (&[], "")] {
            assert_eq!(serial(raw), want);
        }
    }

    #[test]
    fn a_name_cannot_pass_for_two_nor_break_out_of_its_header() {
        let der = Ca::new("ca").leaf(|leaf| {
            leaf.params.distinguished_name.push(DnType::OrganizationName, "A, \"B\"\r\nX-Admin: yes\0 é");
            let names = ["a.test, DNS:admin.test", "b\r\nX: y"].map(|n| SanType::DnsName(n.try_into().unwrap()));
            leaf.params.subject_alt_names = names.to_vec();
            leaf.params.subject_alt_names.push(SanType::IpAddress("2001:db8::1".parse().unwrap()));
        });
        let told = |field| of(field, &[&der]).unwrap();
        assert_eq!(told(ClientCertField::Subject), r#"O=A\, \"B\"\0d\0aX-Admin: yes\00 \c3\a9,CN=client"#);
        assert_eq!(told(ClientCertField::San), r"DNS:a.test\,\20DNS:admin.test, DNS:b\0d\0aX:\20y, IP:2001:db8::1");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_a_certificate_says_its_headers_are_printable(name in any::<String>(), san in "[\\x00-\\x7f]{1,40}") {
            let der = Ca::new(&name).leaf(|leaf| {
                leaf.params.distinguished_name.push(DnType::OrganizationName, name.as_str());
                leaf.params.subject_alt_names = vec![SanType::URI(san.as_str().try_into().unwrap())];
            });
            for field in ALL_CLIENT_CERT_FIELDS {
                let told = of(field, &[&der, &der]);
                let told = told.unwrap_or_else(|| panic!("{field:?} of {name:?}"));
                prop_assert!(told.bytes().all(|b| (b' '..=b'~').contains(&b)), "{field:?}: {told:?}");
            }
            // One name, however it is written.
            prop_assert!(!of(ClientCertField::San, &[&der]).unwrap().contains(", "));
        }

        #[test]
        fn bytes_that_are_no_certificate_are_told_of_as_bytes_alone(der in prop::collection::vec(any::<u8>(), 1..200)) {
            for field in ALL_CLIENT_CERT_FIELDS {
                let told = of(field, &[&der]).unwrap_or_default();
                prop_assert!(told.bytes().all(|b| (b' '..=b'~').contains(&b)), "{field:?}: {told:?}");
            }
        }
    }
}
