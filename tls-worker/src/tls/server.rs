//! TLS towards the clients of a service: which policy holds for which name, and rustls' configuration of each.

use super::client_cert::{ClientAuth, Verifier};
use super::resolver::BySni;
use super::{TlsError, provider};
use crate::api::{self, ClientCertRules, TicketKeys, TlsVersion};
use http::HeaderValue;
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

/// The TLS of one service.
#[derive(Debug)]
pub(crate) struct ServiceTls {
    policies: Vec<Arc<Policy>>,
    exact: HashMap<Box<str>, usize>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, usize>,
    strict: bool,
}

/// What holds for connections that asked for certain names.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) config: Arc<ServerConfig>,
    /// What is asked of clients' certificates; none: nothing.
    pub(super) client_auth: Option<Arc<ClientAuth>>,
    pub(super) terms: Terms,
    /// `Strict-Transport-Security` of every response.
    pub(crate) hsts: Option<HeaderValue>,
    resolver: Arc<BySni>,
    source: Source,
}

/// What a request must not get around by coming on a connection of another policy. Digests stand for the rules, so that
/// they are compared at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) client_cert: [u8; 32],
    pub(super) protocol: [u8; 32],
}

/// What a policy was made from: the same again is not made again, so that its sessions and its parsed keys stay.
#[derive(Debug, PartialEq)]
struct Source {
    service: String,
    policy: api::SniPolicy,
    alpn: Vec<String>,
    tickets: TicketKeys,
    certificates: Vec<(api::Certificate, KeyId)>,
}

/// A key is the same when it is the same object.
#[derive(Debug)]
struct KeyId(Arc<CertifiedKey>);

impl PartialEq for KeyId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A certificate of the snapshot, ready.
pub(crate) type Ready = (api::Certificate, Arc<CertifiedKey>);

impl ServiceTls {
    /// Make it ready; `last` is that of the service in the snapshot before.
    pub(crate) fn new(
        service: &str,
        tls: &api::ServerTls,
        certificates: &[Ready],
        tickets: &TicketKeys,
        last: Option<&ServiceTls>,
    ) -> Result<Self, TlsError> {
        let mut new = ServiceTls {
            policies: Vec::with_capacity(tls.policies.len()),
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            strict: tls.strict_sni,
        };
        for policy in &tls.policies {
            let index = new.policies.len();
            for name in &policy.names {
                let name = name.to_ascii_lowercase();
                let before = match name.strip_prefix("*.") {
                    Some(rest) => new.wildcard.insert(rest.into(), index),
                    None => new.exact.insert(name.as_str().into(), index),
                };
                if before.is_some() {
                    return Err(TlsError::NameTwice(name));
                }
            }
            let have = certificates.len();
            let place =
                |i: &usize| certificates.get(*i).cloned().ok_or(TlsError::NoSuchCertificate { index: *i, have });
            let certificates = policy.certificates.iter().map(place).collect::<Result<Vec<_>, _>>()?;
            let source = Source {
                service: service.to_owned(),
                policy: policy.clone(),
                alpn: tls.alpn.clone(),
                tickets: tickets.clone(),
                certificates: certificates.into_iter().map(|(c, key)| (c, KeyId(key))).collect(),
            };
            let same = last.and_then(|last| last.policies.iter().find(|p| p.source == source));
            new.policies.push(match same {
                Some(policy) => policy.clone(),
                None => Arc::new(Policy::new(source)?),
            });
        }
        match new.policies.is_empty() {
            true => Err(TlsError::NoCertificate),
            false => Ok(new),
        }
    }

    /// Place of the policy of a client that asks for this name; none: it is refused.
    pub(crate) fn select(&self, sni: Option<&str>) -> Option<usize> {
        match sni.and_then(|name| self.named(name)) {
            Some(index) => Some(index),
            None if self.strict => sni.filter(|name| self.policies[0].resolver.has(name)).map(|_| 0),
            None => Some(0),
        }
    }

    /// The policy at a place that [`ServiceTls::select`] gave.
    pub(crate) fn policy(&self, index: usize) -> &Arc<Policy> {
        &self.policies[index.min(self.policies.len() - 1)]
    }

    /// Place of the policy that a request's host belongs to (lower case, no port).
    pub(crate) fn of_host(&self, host: &str) -> usize {
        self.named(host).unwrap_or(0)
    }

    fn named(&self, name: &str) -> Option<usize> {
        let exact = self.exact.get(name);
        exact.or_else(|| self.wildcard.get(name.split_once('.')?.1)).copied()
    }
}

impl Policy {
    fn new(source: Source) -> Result<Self, TlsError> {
        let certificates = source.certificates.iter().map(|(c, key)| (c.names.as_slice(), key.0.clone()));
        let resolver = Arc::new(BySni::new(certificates).ok_or(TlsError::NoCertificate)?);
        let crypto = crypto(&source.policy.protocol)?;
        let versions = versions(&source.policy.protocol)?;
        let client_auth = source.policy.client_cert.as_ref().map(ClientAuth::new).transpose()?.map(Arc::new);
        let builder = ServerConfig::builder_with_provider(crypto).with_protocol_versions(&versions)?;
        let builder = match &client_auth {
            Some(auth) => builder.with_client_cert_verifier(Arc::new(Verifier(auth.clone()))),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(resolver.clone());
        config.alpn_protocols = source.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        // Tickets carry the session themselves: no cache that threads would share behind a lock.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        match ticketer(&source) {
            Some(ticketer) => {
                config.ticketer = ticketer;
                // A ticket is used once; a client that wants a second connection gets the next one on the first.
                config.send_tls13_tickets = 1;
            }
            None => config.send_tls13_tickets = 0,
        }
        let hsts = source.policy.hsts.as_ref();
        let hsts = hsts.map(|value| HeaderValue::try_from(value).map_err(|_| TlsError::Hsts(value.clone())));
        let terms = terms(&source.policy);
        Ok(Policy { config: Arc::new(config), client_auth, terms, hsts: hsts.transpose()?, resolver, source })
    }
}

fn terms(policy: &api::SniPolicy) -> Terms {
    // They serialise: they came so.
    let client_cert = serde_json::to_vec(&policy.client_cert).unwrap_or_default();
    let protocol = serde_json::to_vec(&policy.protocol).unwrap_or_default();
    Terms { client_cert: provider::sha256(&[&client_cert]), protocol: provider::sha256(&[&protocol]) }
}

/// Tickets of a policy: its own service's, and only under the same rules for clients' certificates. Where the
/// authorities or revocation lists change, the scope does, and every older session with it.
fn ticketer(source: &Source) -> Option<Arc<dyn ProducesTickets>> {
    let mut scope = source.service.clone().into_bytes();
    scope.push(0);
    if let Some(rules) = &source.policy.client_cert {
        // It serialises: it came so.
        scope.extend(serde_json::to_vec::<ClientCertRules>(rules).ok()?);
    }
    provider::ticketer(&source.tickets, &scope)
}

/// Suites and groups of a policy.
pub(super) fn crypto(protocol: &api::Protocol) -> Result<Arc<rustls::crypto::CryptoProvider>, TlsError> {
    let suite = |name: &String| provider::suite(name).ok_or_else(|| TlsError::Suite(name.clone()));
    let group = |name: &String| provider::group(name).ok_or_else(|| TlsError::Group(name.clone()));
    let suites = protocol.suites.iter().map(suite).collect::<Result<Vec<_>, _>>()?;
    let groups = protocol.groups.iter().map(group).collect::<Result<Vec<_>, _>>()?;
    Ok(provider::provider_of(&suites, &groups))
}

/// Versions of a policy.
pub(super) fn versions(protocol: &api::Protocol) -> Result<Vec<&'static rustls::SupportedProtocolVersion>, TlsError> {
    let within = |version: &TlsVersion| (protocol.min_version..=protocol.max_version).contains(version);
    let versions: Vec<_> = [TlsVersion::V13, TlsVersion::V12]
        .iter()
        .zip(provider::VERSIONS)
        .filter_map(|(version, rustls)| within(version).then_some(rustls))
        .collect();
    if versions.is_empty() { Err(TlsError::Versions) } else { Ok(versions) }
}

/// See that a service's TLS can be served: what the control plane asks before it takes a config.
pub fn server_tls(service: &str, tls: &api::ServerTls, certificates: &[api::Certificate]) -> Result<(), TlsError> {
    let ready = |c: &api::Certificate| Ok((c.clone(), super::certified_key(c)?));
    let ready = certificates.iter().map(ready).collect::<Result<Vec<Ready>, TlsError>>()?;
    ServiceTls::new(service, tls, &ready, &TicketKeys::default(), None).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Protocol, Secret, ServerTls, SniPolicy};
    use crate::tls::tests::certificate;

    fn policy(names: &[&str]) -> SniPolicy {
        SniPolicy {
            names: names.iter().map(|n| n.to_string()).collect(),
            certificates: vec![0],
            ..SniPolicy::default()
        }
    }

    fn tls(strict: bool) -> ServerTls {
        let policies = vec![policy(&[]), policy(&["a.test", "*.b.test"]), policy(&["x.b.test"])];
        ServerTls { policies, strict_sni: strict, alpn: vec!["h2".into()] }
    }

    fn keys(seed: u8) -> TicketKeys {
        TicketKeys { keys: vec![Secret::new(vec![seed; 32])], lifetime_seconds: 100 }
    }

    #[test]
    fn a_name_has_one_policy_and_strict_knows_no_other_names() {
        let ready = [certificate(&["c.test", "*.d.test"])];
        let (loose, strict) = (ServiceTls::new("s", &tls(false), &ready, &keys(1), None).unwrap(), {
            ServiceTls::new("s", &tls(true), &ready, &keys(1), None).unwrap()
        });
        for (name, want, want_strict) in [
            (Some("a.test"), Some(1), Some(1)),
            (Some("y.b.test"), Some(1), Some(1)),
            (Some("x.b.test"), Some(2), Some(2)),
            (Some("z.y.b.test"), Some(0), None),
            (Some("c.test"), Some(0), Some(0)),
            (Some("e.d.test"), Some(0), Some(0)),
            (Some("other.test"), Some(0), None),
            (None, Some(0), None),
        ] {
            assert_eq!((loose.select(name), strict.select(name)), (want, want_strict), "{name:?}");
        }
        assert_eq!((loose.of_host("a.test"), loose.of_host("nobody.test")), (1, 0));
    }

    #[test]
    fn what_did_not_change_is_kept() {
        let ready = [certificate(&["c.test"])];
        let first = ServiceTls::new("s", &tls(false), &ready, &keys(1), None).unwrap();
        let again = ServiceTls::new("s", &tls(false), &ready, &keys(1), Some(&first)).unwrap();
        assert!((0..3).all(|i| Arc::ptr_eq(first.policy(i), again.policy(i))));
        let other = ServiceTls::new("s", &tls(false), &ready, &keys(2), Some(&first)).unwrap();
        assert!(!Arc::ptr_eq(first.policy(0), other.policy(0)));
        let mut changed = tls(false);
        changed.policies[1].hsts = Some("max-age=1".into());
        let changed = ServiceTls::new("s", &changed, &ready, &keys(1), Some(&first)).unwrap();
        assert!(Arc::ptr_eq(first.policy(0), changed.policy(0)) && !Arc::ptr_eq(first.policy(1), changed.policy(1)));
    }

    #[test]
    fn what_cannot_be_served_is_said() {
        let one = [certificate(&["c.test"]).0];
        let said = |change: fn(&mut ServerTls)| {
            let mut tls = tls(false);
            change(&mut tls);
            server_tls("s", &tls, &one).unwrap_err().to_string()
        };
        assert!(said(|t| t.policies[2].names = vec!["A.test".into()]).contains("\"a.test\" twice"));
        assert!(said(|t| t.policies[0].certificates = vec![7]).contains("certificate 7 of 1"));
        assert!(said(|t| t.policies[0].certificates = vec![]).contains("no certificate"));
        assert!(said(|t| t.policies.clear()).contains("no certificate"));
        assert!(said(|t| t.policies[0].protocol.suites = vec!["RC4".into()]).contains("\"RC4\""));
        assert!(said(|t| t.policies[0].protocol.groups = vec!["x448".into()]).contains("\"x448\""));
        assert!(said(|t| t.policies[0].hsts = Some("a\nb".into())).contains("a\\nb"));
        let none = Protocol { min_version: TlsVersion::V13, max_version: TlsVersion::V12, ..Protocol::default() };
        let mut all = tls(false);
        all.policies[0].protocol = none;
        assert!(server_tls("s", &all, &one).unwrap_err().to_string().contains("version"));
        let known = Protocol { suites: provider::known_suites(), ..Protocol::default() };
        all.policies[0].protocol = known;
        server_tls("s", &all, &one).unwrap();
    }
}
