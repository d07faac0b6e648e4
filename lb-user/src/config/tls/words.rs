//! Words of TLS that mean something: URLs, ALPN names, pins. Pure; each failure says what to write instead.

use super::super::scalar::Wrong;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tls_worker::api::TlsVersion;

/// Words of versions.
pub(in crate::config) const VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::V12), ("1.3", TlsVersion::V13)];

/// `http://HOST[:PORT]/PATH` of a responder. Not https: whoever would verify its certificate would ask a responder again
/// (RFC 5280, 4.2.2.1).
pub(in crate::config) fn http_url(text: &str) -> Result<String, Wrong> {
    const HELP: &str = "write \"http://ocsp.example.com/\"";
    let uri = text.parse::<hyper::Uri>().map_err(|e| Wrong::new(format!("{text:?} is no URL: {e}"), HELP))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http"), Some(authority)) if !authority.as_str().contains('@') => Ok(text.to_owned()),
        (Some("https"), _) => Err(Wrong::new(
            format!("{text:?} is asked over TLS"),
            "write a URL with http: answers are signed, and whoever asks over TLS must ask for that certificate first",
        )),
        _ => Err(Wrong::new(format!("{text:?} is no http URL"), HELP)),
    }
}

/// Name of a protocol (RFC 7301, 3.1: 1 to 255 bytes), of printable ASCII.
pub(in crate::config) fn alpn(text: &str) -> Result<String, Wrong> {
    if (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(format!("{text:?} is no protocol's name"), "write a registered one, such as \"imap\" or \"mqtt\""))
}

/// `sha256/BASE64` of a SubjectPublicKeyInfo (RFC 7469, 2.4).
pub(super) fn pin(text: &str) -> Result<[u8; 32], Wrong> {
    let decoded = text.strip_prefix("sha256/").and_then(|base64| STANDARD.decode(base64).ok());
    decoded.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        Wrong::new(
            format!("{text:?} is no pin"),
            "write \"sha256/\" and 44 characters of base64: openssl x509 -in CERT -noout -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_pins_and_protocols_are_read() {
        assert!(http_url("http://ocsp.example.com:8080/a?b").is_ok());
        for bad in ["", "ocsp.example.com", "https://x/", "ftp://x/", "http://", "http://a@b/", "/x", "http://a b/"] {
            assert!(http_url(bad).is_err(), "{bad}");
        }
        assert_eq!(pin(&format!("sha256/{}", STANDARD.encode([7; 32]))).unwrap(), [7; 32]);
        for bad in [STANDARD.encode([7; 32]), format!("sha256/{}", STANDARD.encode([7; 31])), "sha256/!".into()] {
            assert!(pin(&bad).is_err(), "{bad}");
        }
        assert!(alpn("").is_err() && alpn("a b").is_err() && alpn(&"x".repeat(256)).is_err() && alpn("h2").is_ok());
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "\\PC{0,40}") {
            let _ = (http_url(&text), pin(&text), alpn(&text));
        }
    }
}
