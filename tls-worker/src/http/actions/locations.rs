//! Addresses in a backend's answer, as the client must know them: where the edge changed scheme, host or path prefix on the
//! way there, `Location`, `Content-Location` and `Refresh` are changed back.
//!
//! What is done without being asked for: a backend in clear text behind HTTPS that sends its client to `http://` of the same
//! host means the client's own scheme, which it cannot see, and the client would leave HTTPS for it. The other way round an
//! address of HTTPS stays as it is: it may be meant, and to make it `http://` would be to weaken it. An address of another
//! host is never touched.

use crate::api::{self, PathChange, PathMatch};
use crate::http::headers::split_authority;
use crate::http::route::has_prefix;
use std::net::SocketAddr;

/// What a route changes back.
#[derive(Debug, Default)]
pub(in crate::http) struct Moved {
    pub(super) locations: bool,
    pub(super) cookies: bool,
    /// Client's prefix and backend's, without their last slashes.
    prefix: Option<(Box<str>, Box<str>)>,
}

impl Moved {
    pub(super) fn new(rewrite: &api::Rewrite, matched: &PathMatch) -> Moved {
        let prefix = match (&rewrite.path, matched.prefix()) {
            (Some(PathChange::Prefix(to)), Some(from)) => Some((from.into(), to.trim_end_matches('/').into())),
            _ => None,
        };
        Moved { locations: !rewrite.keep_locations, cookies: !rewrite.keep_cookies, prefix }
    }
}

/// Both sides of an exchange.
#[derive(Debug)]
pub(in crate::http) struct Sides<'a> {
    pub(in crate::http) moved: &'a Moved,
    /// `http` or `https`.
    pub(in crate::http) client_scheme: &'a str,
    /// As the client wrote it.
    pub(in crate::http) client_authority: &'a str,
    /// What the backend was asked for.
    pub(in crate::http) asked: &'a str,
    /// The backend is spoken to in clear text.
    pub(in crate::http) clear: bool,
    pub(in crate::http) backend: SocketAddr,
}

impl Sides<'_> {
    pub(super) fn client_host(&self) -> &str {
        split_authority(self.client_authority).0
    }

    pub(super) fn asked_host(&self) -> &str {
        split_authority(self.asked).0
    }

    /// Whether the client's HTTPS is clear text behind the edge.
    pub(super) fn ends_tls(&self) -> bool {
        self.clear && self.client_scheme == "https"
    }

    /// The address as the client must know it; None: as it is.
    pub(in crate::http) fn location(&self, value: &str) -> Option<String> {
        let (scheme, rest) = match value.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Some("http"), rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Some("https"), rest),
            _ => match value.strip_prefix("//") {
                Some(rest) => (None, rest),
                None if value.starts_with('/') => return self.path(value),
                None => return None,
            },
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (host, port) = split_authority(authority);
        let is_backend = authority == self.backend.to_string() && !host.eq_ignore_ascii_case(self.client_host());
        let named = host.eq_ignore_ascii_case(self.asked_host());
        let (client_port, asked_port) = (split_authority(self.client_authority).1, split_authority(self.asked).1);
        let own_port = [None, client_port, asked_port, Some(80), Some(443), Some(self.backend.port())].contains(&port);
        if !(is_backend || named && own_port) || authority.contains('@') {
            return None;
        }
        let renamed = is_backend || !host.eq_ignore_ascii_case(self.client_host());
        let downgrade = scheme == Some("https") && self.client_scheme == "http";
        let new_scheme = match scheme {
            // See the module. A backend over TLS that is asked for another name names its own scheme.
            Some("https") if downgrade && !(renamed && !self.clear) => "https",
            Some("http") if self.client_scheme == "https" && !self.clear && !renamed => "http",
            _ => self.client_scheme,
        };
        let same_scheme = scheme.is_none_or(|scheme| scheme == new_scheme);
        let of_client = new_scheme == self.client_scheme;
        let keeps = !renamed && same_scheme && (port.is_none() || port == client_port || !of_client);
        let new_authority = match (keeps, of_client) {
            (true, _) => authority,
            (false, true) => self.client_authority,
            // The client's port is that of its own scheme.
            (false, false) => self.client_host(),
        };
        let new_target = if target.starts_with('/') { self.path(target) } else { None };
        let target = new_target.as_deref().unwrap_or(target);
        let new = match scheme {
            Some(_) => format!("{new_scheme}://{new_authority}{target}"),
            None => format!("//{new_authority}{target}"),
        };
        (new != value).then_some(new)
    }

    /// The same of a path, with what follows it.
    pub(super) fn path(&self, target: &str) -> Option<String> {
        let (client, backend) = self.moved.prefix.as_ref()?;
        let end = target.find(['?', '#']).unwrap_or(target.len());
        let (path, rest) = target.split_at(end);
        // A backend that has its whole tree moved may know so, and write paths as clients see them.
        if !has_prefix(path, backend) || (backend.is_empty() && has_prefix(path, client)) {
            return None;
        }
        let new = format!("{client}{}", &path[backend.len()..]);
        Some(if new.is_empty() { format!("/{rest}") } else { new + rest })
    }

    /// The value of `Refresh`, `5; url=ADDRESS`.
    pub(super) fn refresh(&self, value: &str) -> Option<String> {
        let at = value.to_ascii_lowercase().find("url=")? + "url=".len();
        let (before, address) = value.split_at(at);
        let quote = address.chars().next().filter(|c| matches!(c, '"' | '\''));
        let inner = match quote {
            Some(quote) => address[1..].split(quote).next()?,
            None => address,
        };
        let new = self.location(inner.trim())?;
        Some(match quote {
            Some(quote) => format!("{before}{quote}{new}{quote}"),
            None => format!("{before}{new}"),
        })
    }
}
