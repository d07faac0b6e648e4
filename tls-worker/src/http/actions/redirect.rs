//! Where a client is sent.

use super::rewrite::NewPath;
use crate::api::{self, PathMatch};
use crate::http::body::ResponseBody;
use crate::http::headers::split_authority;
use crate::http::route::Patterns;
use crate::vars::{Lookup, Template};
use http::{HeaderValue, Response, StatusCode, Uri, header};

/// An [`api::Redirect`], ready.
#[derive(Debug)]
pub(in crate::http) struct Redirect {
    code: StatusCode,
    to: Option<Template>,
    scheme: Option<Box<str>>,
    host: Option<Box<str>>,
    port: Option<u16>,
    path: Option<NewPath>,
    drop_query: bool,
}

/// What was asked for.
pub(in crate::http) struct Asked<'a> {
    pub(in crate::http) scheme: &'a str,
    /// As the client wrote it.
    pub(in crate::http) authority: &'a str,
    pub(in crate::http) uri: &'a Uri,
}

impl Redirect {
    pub(super) fn new(
        redirect: &api::Redirect,
        matched: &PathMatch,
        patterns: &mut Patterns,
    ) -> Result<Redirect, String> {
        let code = StatusCode::from_u16(redirect.code).ok().filter(|c| [301, 302, 303, 307, 308].contains(&c.as_u16()));
        let to = redirect.to.as_ref().map(|text| Template::parse(text).map_err(|error| format!("redirect: {error}")));
        let path = redirect.path.as_ref().map(|path| NewPath::new(path, matched, patterns));
        let scheme = redirect.scheme.as_deref();
        if let Some(other) = scheme.filter(|scheme| !["http", "https"].contains(scheme)) {
            return Err(format!("{other:?} is no scheme of redirects"));
        }
        Ok(Redirect {
            code: code.ok_or_else(|| format!("{} is no code of redirects", redirect.code))?,
            to: to.transpose()?,
            scheme: scheme.map(Into::into),
            host: redirect.host.as_deref().map(Into::into),
            port: redirect.port,
            path: path.transpose()?,
            drop_query: redirect.drop_query,
        })
    }

    /// The answer; None: what came of the request is no address.
    pub(in crate::http) fn response(&self, asked: &Asked<'_>, facts: &dyn Lookup) -> Option<Response<ResponseBody>> {
        let location = match &self.to {
            Some(text) => text.fill(facts),
            None => self.location(asked),
        };
        let location = HeaderValue::from_bytes(&location).ok().filter(|location| !location.is_empty())?;
        let mut response = Response::new(ResponseBody::text("the address is in the Location header\n"));
        *response.status_mut() = self.code;
        response.headers_mut().insert(header::LOCATION, location);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Some(response)
    }

    fn location(&self, asked: &Asked<'_>) -> Vec<u8> {
        let (host, port) = split_authority(asked.authority);
        let scheme = self.scheme.as_deref().unwrap_or(asked.scheme);
        let port = self.port.or(port.filter(|_| self.scheme.is_none()));
        let port = port.filter(|port| *port != if scheme == "https" { 443 } else { 80 });
        let path = asked.uri.path();
        // `OPTIONS *` asks for the server.
        let path = if path.starts_with('/') { path } else { "/" };
        let path = self.path.as_ref().and_then(|change| change.of(path)).unwrap_or_else(|| path.as_bytes().to_vec());
        let mut location = format!("{scheme}://{}", self.host.as_deref().unwrap_or(host)).into_bytes();
        if let Some(port) = port {
            location.extend_from_slice(format!(":{port}").as_bytes());
        }
        if !path.starts_with(b"/") {
            location.push(b'/');
        }
        location.extend_from_slice(&path);
        if let Some(query) = asked.uri.query().filter(|_| !self.drop_query) {
            location.push(if path.contains(&b'?') { b'&' } else { b'?' });
            location.extend_from_slice(query.as_bytes());
        }
        location
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::PathChange;

    #[test]
    fn clients_are_sent_to_what_the_parts_say() {
        let to = |redirect: api::Redirect, scheme: &str, authority: &str, target: &str| {
            let matched = PathMatch::Prefix("/a".into());
            let redirect = Redirect::new(&api::Redirect { code: 302, ..redirect }, &matched, &mut Patterns::default());
            let uri: Uri = target.parse().unwrap();
            let asked = Asked { scheme, authority, uri: &uri };
            String::from_utf8(redirect.unwrap().location(&asked)).unwrap()
        };
        let none = api::Redirect::default;
        let https = || api::Redirect { scheme: Some("https".into()), ..none() };
        assert_eq!(to(https(), "http", "a.test:8080", "/a/b?q=1"), "https://a.test/a/b?q=1");
        assert_eq!(to(https(), "http", "[::1]:80", "*"), "https://[::1]/");
        assert_eq!(to(api::Redirect { port: Some(8443), ..https() }, "http", "a.test", "/"), "https://a.test:8443/");
        assert_eq!(to(api::Redirect { port: Some(443), ..https() }, "http", "a.test", "/"), "https://a.test/");
        let host = || api::Redirect { host: Some("b.test".into()), ..none() };
        assert_eq!(to(host(), "https", "a.test:8443", "/a"), "https://b.test:8443/a");
        assert_eq!(to(host(), "http", "a.test:80", "/a"), "http://b.test/a");
        let prefix = api::Redirect { path: Some(PathChange::Prefix("/new".into())), drop_query: true, ..none() };
        assert_eq!(to(prefix, "http", "a.test", "/a/x?q"), "http://a.test/new/x");
        let regex = PathChange::Regex { pattern: "^/a/(.*)$".into(), with: "//evil.test/$1".into() };
        let regex = api::Redirect { path: Some(regex), ..none() };
        assert_eq!(to(regex, "http", "a.test", "/a/x"), "http://a.test//evil.test/x");
    }
}
