//! `[authorizer.NAME]`: who is asked before a request goes on.

use super::super::backends::name_and_port;
use super::super::files::Files;
use super::super::model::Pool;
use super::super::names::NamedBackend;
use super::super::pool::{DEADLINE, codes};
use super::super::problem::{Problem, Problems};
use super::super::refs::Refs;
use super::super::scalar::{self, Wrong};
use super::super::section::{At, Section, string};
use super::super::tls::upstream::{self, Certificates};
use super::text::{When, template};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tls_worker::api::requests::check_authorizer;
use tls_worker::api::{self, Allow, AuthorizerCache, BodyTest, Deny, TextTest};

/// Most authorizers.
const MAX: usize = 256;

/// An authorizer, and the pool that its `url` stands for; its `pool` then is that one's place among such pools.
pub(in crate::config) struct Parsed {
    pub(in crate::config) authorizer: api::Authorizer,
    pub(in crate::config) own_pool: Option<Pool>,
}

/// What authorizers point to.
pub(in crate::config) struct Around<'a, 'f, 'c> {
    pub(in crate::config) pools: &'a mut Refs,
    pub(in crate::config) files: &'a mut Files<'f>,
    pub(in crate::config) certificates: &'a mut Certificates<'c>,
}

/// Name of the pool that an authorizer's `url` stands for.
fn pool_name(authorizer: &str) -> String {
    format!("authorizer.{authorizer}")
}

pub(in crate::config) fn authorizers(
    sections: Vec<(At<String>, Section<'_>)>,
    p: &mut Problems,
    around: &mut Around<'_, '_, '_>,
) -> Vec<Option<Parsed>> {
    if let Some((name, _)) = sections.get(MAX) {
        p.push(
            Problem::error(name.span.clone(), format!("{} authorizers are too many", sections.len()))
                .help(format!("write at most {MAX}")),
        );
        return Vec::new();
    }
    sections.into_iter().map(|(name, section)| authorizer(&name, section, p, around)).collect()
}

fn authorizer(
    name: &At<String>,
    mut section: Section<'_>,
    p: &mut Problems,
    around: &mut Around<'_, '_, '_>,
) -> Option<Parsed> {
    let target = target(name, &mut section, p, around);
    let method = section.parsed(p, "method", method).map_or("GET".into(), |at| at.value);
    let (asked_host, asked_path) = match &target {
        Some(Target { url: Some(url), .. }) => (url.authority.clone(), url.path.clone()),
        _ => ("${request.host}".to_owned(), None),
    };
    let host = text(&mut section, p, "host").unwrap_or(asked_host);
    let path = text(&mut section, p, "path").or(asked_path);
    if path.is_none() && !section.has("path") {
        section.missing("path", "write path = \"/authorize\"");
    }
    let query = texts(&mut section, p, "query");
    let headers = texts(&mut section, p, "headers");
    let timeout = section.duration(p, "timeout", DEADLINE).unwrap_or(Duration::from_secs(2));
    let fail_open = section.choice(p, "fail", &[("closed", false), ("open", true)]).unwrap_or(false);
    let allow = section.section(p, "allow").map_or_else(Allow::default, |inner| allow(inner, p));
    let deny = section.section(p, "deny").map_or(Some(Deny::AsAnswered), |inner| deny(inner, p));
    let names = |section: &mut Section<'_>, p: &mut Problems, key| {
        let list = section.parsed_list(p, key, scalar::header_name)?;
        Some(list.into_iter().map(|at| at.value).collect::<Vec<_>>())
    };
    let request_headers = names(&mut section, p, "request_headers").unwrap_or_default();
    let refusal_headers =
        names(&mut section, p, "refusal_headers").unwrap_or_else(|| vec!["www-authenticate".to_owned()]);
    let cache = match section.section(p, "cache") {
        None => None,
        Some(inner) => Some(cache(inner, p)?),
    };
    let span = section.span.clone();
    section.finish(p);
    let (target, path) = (target?, path?);
    let authorizer = api::Authorizer {
        name: name.value.clone(),
        pool: target.pool,
        method,
        host,
        path,
        query,
        headers,
        timeout,
        fail_open,
        allow,
        deny: deny?,
        request_headers,
        refusal_headers,
        cache,
    };
    // Texts were read one by one; this is what is left.
    if !p.has_errors()
        && let Err(problem) = check_authorizer(&authorizer)
    {
        p.push(Problem::error(span, format!("authorizer {:?}: {problem}", name.value)).help("mend this key"));
    }
    Some(Parsed { authorizer, own_pool: target.own })
}

/// Who is asked.
struct Target {
    pool: usize,
    own: Option<Pool>,
    url: Option<Url>,
}

fn target(
    name: &At<String>,
    section: &mut Section<'_>,
    p: &mut Problems,
    around: &mut Around<'_, '_, '_>,
) -> Option<Target> {
    let pool = section.string(p, "pool");
    let url = section.parsed(p, "url", url);
    let tls = section.section(p, "tls");
    match (section.has("pool"), section.has("url")) {
        (true, true) => {
            p.push(
                Problem::error(section.span_of("url"), format!("{} names a pool and a URL", section.title))
                    .help("keep one of them"),
            );
            return None;
        }
        (false, false) => {
            section.missing("pool", "write pool = \"NAME\", or url = \"https://192.0.2.10:8443/authorize\"");
            return None;
        }
        _ => {}
    }
    let secure = url.as_ref().is_some_and(|at| at.value.secure);
    if let Some(tls) = tls.as_ref().filter(|_| !secure) {
        p.push(
            Problem::error(tls.span.clone(), "`tls` belongs to a `url` that begins with https")
                .help("write it into the pool, or ask by https"),
        );
        return None;
    }
    if let Some(at) = pool {
        return Some(Target { pool: around.pools.resolve(&at, p)?, own: None, url: None });
    }
    let url = url?.value;
    let title = section.title.replace(']', ".tls]");
    let tls = secure.then(|| {
        let tls = tls.unwrap_or_else(|| Section::absent(&title).at(section.span_of("url")));
        upstream::tls(tls, p, around.files, around.certificates)
    });
    let own = Pool { tls, ..url.pool(pool_name(&name.value)) };
    Some(Target { pool: 0, own: Some(own), url: Some(url) })
}

/// `http://192.0.2.10:8080/path`, `https://who.internal/path`
#[derive(Debug, PartialEq)]
struct Url {
    secure: bool,
    at: Result<SocketAddr, (String, u16)>,
    authority: String,
    path: Option<String>,
}

fn url(text: &str) -> Result<Url, Wrong> {
    const HELP: &str = "write \"http://192.0.2.10:8080/authorize\"";
    let uri = text.parse::<hyper::Uri>().map_err(|error| Wrong::new(format!("{text:?} is no URL: {error}"), HELP))?;
    let secure = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(Wrong::new(format!("{text:?} is no http or https URL"), HELP)),
    };
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
    let authority = authority.ok_or_else(|| Wrong::new(format!("{text:?} has no host"), HELP))?;
    if uri.query().is_some() {
        return Err(Wrong::new(format!("{text:?} has a query"), "write its parameters as `query`"));
    }
    let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let host = authority.host();
    let at = match name_and_port(&format!("{host}:{port}"))? {
        Some(named) => Err(named),
        None => {
            let address = scalar::backend(&format!("{host}:{port}"));
            Ok(address.map_err(|_| Wrong::new(format!("{host:?} is no host"), HELP))?)
        }
    };
    let path = (uri.path() != "/").then(|| uri.path().to_owned());
    Ok(Url { secure, at, authority: authority.to_string(), path })
}

impl Url {
    /// Whom it names.
    fn pool(&self, name: String) -> Pool {
        match &self.at {
            Ok(address) => Pool::of(name, [(*address, 1)].into(), Vec::new()),
            Err((host, port)) => {
                let (host, role) = (host.clone(), api::BackendRole::default());
                Pool::of(name, BTreeMap::new(), vec![NamedBackend { host, port: *port, weight: 1, role }])
            }
        }
    }
}

fn method(text: &str) -> Result<String, Wrong> {
    match text {
        "GET" | "HEAD" | "POST" | "PUT" | "OPTIONS" => Ok(text.to_owned()),
        _ => Err(Wrong::new(
            format!("{text:?} cannot be asked with"),
            "write \"GET\", \"HEAD\", \"POST\", \"PUT\" or \"OPTIONS\"",
        )),
    }
}

fn text(section: &mut Section<'_>, p: &mut Problems, key: &'static str) -> Option<String> {
    let at = section.string(p, key)?;
    template(p, &at, When::Request)
}

/// A table of texts with variables, by names of the operator's.
fn texts(section: &mut Section<'_>, p: &mut Problems, key: &'static str) -> Vec<(String, String)> {
    let Some(inner) = section.section(p, key) else { return Vec::new() };
    let mut found = Vec::new();
    for (name, value) in inner.entries() {
        let Some(at) = string(p, value, name.value) else { continue };
        if let Some(text) = template(p, &at, When::Request) {
            found.push((name.value.to_owned(), text));
        }
    }
    found
}

fn allow(mut section: Section<'_>, p: &mut Problems) -> Allow {
    let codes = codes(&mut section, p, "status");
    let status = if section.has("status") { codes } else { Vec::new() };
    let mut tests = Vec::new();
    for (key, test) in
        [("body_equals", TextTest::Equals), ("body_prefix", TextTest::Prefix), ("body_contains", TextTest::Contains)]
    {
        if let Some(at) = section.string(p, key) {
            tests.push((key, test, at));
        }
    }
    let first = section.integer(p, "body_first", 1..=65_536);
    if let [(one, ..), (other, _, at), ..] = &tests[..] {
        p.push(
            Problem::error(at.span.clone(), format!("`{one}` and `{other}` are both there"))
                .help("keep the one that says when a request may go on"),
        );
    }
    if first.is_some() && tests.is_empty() {
        p.push(
            Problem::error(section.span_of("body_first"), "`body_first` says how much is looked at, and nothing is")
                .help("write body_equals = \"TEXT\", or remove `body_first`"),
        );
    }
    let body = tests.into_iter().next().map(|(key, test, at)| {
        let first = first.unwrap_or(4096);
        if at.value.len() > first as usize {
            p.push(
                Problem::error(at.span.clone(), format!("`{key}` is longer than the {first} bytes that are looked at"))
                    .help("write a larger `body_first`, or a shorter text"),
            );
        }
        BodyTest { first, test, text: at.value.to_owned() }
    });
    section.finish(p);
    Allow { status, body }
}

fn deny(mut section: Section<'_>, p: &mut Problems) -> Option<Deny> {
    let status = section.integer(p, "status", 300..=499);
    let redirect = text(&mut section, p, "redirect");
    let drop = section.boolean(p, "drop").unwrap_or(false);
    let span = section.span_of("status");
    let has_redirect = section.has("redirect");
    let problem = match (status, has_redirect, drop) {
        (Some(_), _, true) | (_, true, true) => {
            Some(("a connection that is dropped gets no answer".to_owned(), "remove `drop`, or all else"))
        }
        (Some(status), true, false) if !matches!(status, 302 | 303 | 307) => {
            Some((format!("{status} is no redirect of a refusal"), "write 302, 303 or 307"))
        }
        (Some(status), false, false) if status < 400 => {
            Some((format!("{status} needs a place to go to"), "add redirect = \"https://…\", or write 401 or 403"))
        }
        _ => None,
    };
    section.finish(p);
    if let Some((message, help)) = problem {
        p.push(Problem::error(span, message).help(help));
        return None;
    }
    if has_redirect {
        return Some(Deny::Redirect { status: status.unwrap_or(302) as u16, location: redirect? });
    }
    Some(match status {
        _ if drop => Deny::Drop,
        Some(status) => Deny::Status(status as u16),
        None => Deny::AsAnswered,
    })
}

/// A year: what the appliance's `cacheForSecs` goes up to.
const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(31_536_000);

fn cache(mut section: Section<'_>, p: &mut Problems) -> Option<AuthorizerCache> {
    let key = section.string(p, "key");
    if !section.has("key") {
        section.missing(
            "key",
            "write what requests have in common that one answer serves: key = \"${header('authorization')}\"",
        );
    }
    if let Some(at) = &key
        && tls_worker::api::vars::Template::parse(at.value).is_ok_and(|text| text.constant().is_some())
    {
        p.push(
            Problem::error(at.span.clone(), "every request has the same key: one answer would serve all clients")
                .help("name in it all that the answer depends on, such as ${header('authorization')}"),
        );
    }
    let key = key.and_then(|at| template(p, &at, When::Request));
    let ttl = section.duration(p, "ttl", TTL).unwrap_or(Duration::from_secs(60));
    let negative_ttl = section.duration(p, "negative_ttl", TTL).unwrap_or(Duration::from_secs(5).min(ttl));
    let size = section.integer(p, "size", 1..=1_000_000).unwrap_or(10_000);
    section.finish(p);
    Some(AuthorizerCache { key: key?, ttl, negative_ttl, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_of_addresses_or_names() {
        let read = url("https://192.0.2.1/ask").unwrap();
        assert_eq!((read.secure, read.at.unwrap().to_string().as_str()), (true, "192.0.2.1:443"));
        assert_eq!(url("https://Who.internal/ask").unwrap().at, Err(("who.internal".into(), 443)));
        assert_eq!(url("http://who.internal:8080").unwrap().pool("p".into()).names[0].to_string(), "who.internal:8080");
        assert_eq!((read.authority.as_str(), read.path.as_deref()), ("192.0.2.1", Some("/ask")));
        assert_eq!(url("http://[2001:db8::1]:8080").unwrap().path, None);
        for bad in ["", "/ask", "ftp://192.0.2.1/", "http://-a.b/", "http://u@192.0.2.1/", "http://192.0.2.1/?a=b"] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }
}
