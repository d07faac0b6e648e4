//! Which certificate a client gets: by SNI the exact name, then the wildcard, else all in their order. Of several
//! (ECDSA and RSA), the first that the client can verify.

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureScheme, sign};
use std::collections::HashMap;
use std::sync::Arc;

/// The certificates of one policy.
#[derive(Debug)]
pub(super) struct BySni {
    exact: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    /// In the config's order; never empty.
    all: Vec<Arc<CertifiedKey>>,
}

impl BySni {
    /// None where there is no certificate.
    pub(super) fn new<'a>(certificates: impl IntoIterator<Item = (&'a [String], Arc<CertifiedKey>)>) -> Option<Self> {
        let (mut exact, mut wildcard, mut all) = (HashMap::new(), HashMap::new(), Vec::new());
        for (names, key) in certificates {
            for name in names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut wildcard, rest),
                    None => (&mut exact, name.as_str()),
                };
                let list: &mut Vec<Arc<CertifiedKey>> = map.entry(name.to_ascii_lowercase().into()).or_default();
                list.push(key.clone());
            }
            all.push(key);
        }
        (!all.is_empty()).then_some(BySni { exact, wildcard, all })
    }

    /// Whether a certificate is for this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.named(name).is_some()
    }

    fn named(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let exact = self.exact.get(name);
        exact.or_else(|| self.wildcard.get(name.split_once('.')?.1))
    }

    fn pick(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Arc<CertifiedKey> {
        let found = name.and_then(|name| self.named(name)).unwrap_or(&self.all);
        let usable = found.iter().find(|c| sign::SigningKey::choose_scheme(&*c.key, schemes).is_some());
        usable.unwrap_or(&found[0]).clone()
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives the name in lower case.
        Some(self.pick(hello.server_name(), hello.signature_schemes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::certificate;

    #[test]
    fn exact_before_wildcard_before_the_first() {
        let keys: Vec<_> = (0..3).map(|_| certificate(&["x"]).1).collect();
        let names = [vec!["a.test".to_string()], vec!["*.b.test".into()], vec!["x.b.test".into()]];
        let by = BySni::new(names.iter().map(Vec::as_slice).zip(keys.iter().cloned())).unwrap();
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
        for (name, want) in [
            (Some("a.test"), 0),
            (Some("y.b.test"), 1),
            (Some("x.b.test"), 2),
            (Some("y.x.b.test"), 0),
            (Some("b.test"), 0),
            (None, 0),
        ] {
            assert!(Arc::ptr_eq(&by.pick(name, &schemes), &keys[want]), "{name:?}");
        }
        assert!(BySni::new([]).is_none());
    }
}
