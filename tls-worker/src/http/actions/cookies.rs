//! What a backend's answer says of addresses, changed to what the client knows: its cookies' `Domain`, `Path` and `Secure`,
//! and the headers of [`super::locations`].
//!
//! A cookie's attributes are edited in place: a parser would lose those that it does not know. `Secure` is added where the
//! edge ends TLS in front of a backend in clear text, for that backend cannot know that its cookie came over TLS, and without
//! the attribute a single request in clear text gives the cookie away.

use super::locations::Sides;
use http::{HeaderMap, HeaderValue, header};
use std::net::IpAddr;

/// Change a backend's answer.
pub(in crate::http) fn restore(headers: &mut HeaderMap, sides: &Sides<'_>) {
    if sides.moved.locations {
        for name in [header::LOCATION, header::CONTENT_LOCATION, header::REFRESH] {
            let Some(value) = headers.get(&name).and_then(|value| value.to_str().ok()) else { continue };
            let new = if name == header::REFRESH { sides.refresh(value) } else { sides.location(value) };
            if let Some(new) = new.and_then(|new| HeaderValue::from_str(&new).ok()) {
                headers.insert(name, new);
            }
        }
    }
    if sides.moved.cookies && headers.contains_key(header::SET_COOKIE) {
        let all = headers.get_all(header::SET_COOKIE).iter();
        let new: Vec<Option<Vec<u8>>> = all.map(|value| sides.cookie(value.as_bytes())).collect();
        if new.iter().any(Option::is_some)
            && let header::Entry::Occupied(mut entry) = headers.entry(header::SET_COOKIE)
        {
            for (value, new) in entry.iter_mut().zip(new) {
                if let Some(new) = new.and_then(|new| HeaderValue::from_bytes(&new).ok()) {
                    *value = new;
                }
            }
        }
    }
}

impl Sides<'_> {
    /// A `Set-Cookie` as the client must know it; None: as it is.
    pub(super) fn cookie(&self, value: &[u8]) -> Option<Vec<u8>> {
        // User agents end the value at the first semicolon, quoted or not (RFC 6265, 5.2).
        let mut parts = value.split(|byte| *byte == b';');
        let mut new = parts.next().unwrap_or_default().to_vec();
        let (mut changed, mut secure) = (false, false);
        for part in parts {
            let text = str::from_utf8(part).unwrap_or_default().trim();
            let (name, attribute) = text.split_once('=').unwrap_or((text, ""));
            let (name, attribute) = (name.trim_end(), attribute.trim());
            let other = if name.eq_ignore_ascii_case("domain") {
                self.domain(attribute)
            } else if name.eq_ignore_ascii_case("path") && attribute.starts_with('/') {
                self.path(attribute).map(Some)
            } else {
                secure |= name.eq_ignore_ascii_case("secure");
                None
            };
            match other {
                None => {
                    new.push(b';');
                    new.extend_from_slice(part);
                }
                Some(other) => {
                    changed = true;
                    if let Some(attribute) = other {
                        new.extend_from_slice(format!("; {name}={attribute}").as_bytes());
                    }
                }
            }
        }
        if self.ends_tls() && !secure {
            new.extend_from_slice(b"; Secure");
            changed = true;
        }
        changed.then_some(new)
    }

    /// Another domain; none: the attribute goes, and the cookie is the client's host's.
    fn domain(&self, attribute: &str) -> Option<Option<String>> {
        let (client, asked) = (self.client_host().to_ascii_lowercase(), self.asked_host().to_ascii_lowercase());
        let domain = attribute.trim_start_matches('.').to_ascii_lowercase();
        let within = |host: &str| host == domain || host.strip_suffix(&*domain).is_some_and(|rest| rest.ends_with('.'));
        if client == asked || domain.is_empty() || within(&client) || !within(&asked) {
            return None;
        }
        // An address has no domain (RFC 6265, 5.1.3).
        let is_address = client.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        Some((domain == asked && !is_address).then_some(client))
    }
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
