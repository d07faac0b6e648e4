//! `client_cert_headers`: what backends are told of a client's certificate.

use super::super::problem::{Problem, Problems};
use super::super::scalar::{Wrong, header_name};
use super::super::section::{Section, parsed};
use tls_worker::api::tls::client_cert_header;
use tls_worker::api::{ClientCertField, ClientCertHeader};

/// More parts than a certificate has.
const MAX_HEADERS: usize = 16;
/// Words of fields.
const FIELDS: [(&str, ClientCertField); 13] = [
    ("pem", ClientCertField::Pem),
    ("pem-urlencoded", ClientCertField::PemUrlencoded),
    ("rfc9440", ClientCertField::Rfc9440),
    ("rfc9440-chain", ClientCertField::Rfc9440Chain),
    ("subject", ClientCertField::Subject),
    ("issuer", ClientCertField::Issuer),
    ("serial", ClientCertField::Serial),
    ("fingerprint", ClientCertField::Fingerprint),
    ("fingerprint-sha1", ClientCertField::FingerprintSha1),
    ("not-before", ClientCertField::NotBefore),
    ("not-after", ClientCertField::NotAfter),
    ("san", ClientCertField::San),
    ("verify", ClientCertField::Verify),
];
/// None: the key is not there.
pub(in crate::config) fn client_cert_headers(
    section: &mut Section<'_>,
    p: &mut Problems,
) -> Option<Vec<ClientCertHeader>> {
    let inner = section.section(p, "client_cert_headers")?;
    let mut headers: Vec<ClientCertHeader> = Vec::new();
    for (name, value) in inner.entries() {
        let header = header_name(name.value).and_then(|header| {
            // The field does not matter to what the worker says of the name.
            let asked = ClientCertHeader { name: header.clone(), value: ClientCertField::Verify };
            client_cert_header(&asked)
                .map(|_| header)
                .map_err(|error| Wrong::new(error.to_string(), "write a name of your own, such as \"x-client-cert\""))
        });
        let header = match header {
            Ok(header) => header,
            Err(wrong) => {
                p.push(wrong.at(name.span));
                continue;
            }
        };
        let field = parsed(p, value, name.value, |text| {
            FIELDS.iter().find(|(word, _)| *word == text).map(|(_, field)| *field).ok_or_else(|| {
                let all = FIELDS.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
                Wrong::new(format!("{text:?} is no part of a certificate"), format!("write one of: {all}"))
            })
        });
        if headers.iter().any(|other| other.name == header) {
            p.push(Problem::error(name.span, format!("the header {header:?} stands here twice")).help("name it once"));
        } else if let Some(field) = field {
            headers.push(ClientCertHeader { name: header, value: field.value });
        }
    }
    if headers.len() > MAX_HEADERS {
        p.push(
            Problem::error(section.span_of("client_cert_headers"), format!("{} headers are too many", headers.len()))
                .help(format!("write at most {MAX_HEADERS}")),
        );
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_fields_are_those_of_the_worker() {
        for (word, field) in FIELDS {
            assert_eq!(serde_json::to_value(field).unwrap(), word);
        }
    }
}
