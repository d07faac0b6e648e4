//! An [`api::Authorizer`], checked and ready.

use super::answers::Answers;
use crate::api::{self, Allow};
use crate::vars::Template;
use http::{HeaderName, Method, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::sync::Arc;
use std::time::Duration;

/// Most headers and parameters of each kind.
const MAX_PARTS: usize = 32;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) name: Arc<str>,
    pub(crate) pool: usize,
    pub(super) method: Method,
    pub(super) host: Template,
    pub(super) path: Template,
    /// Names are encoded.
    pub(super) query: Vec<(Box<str>, Template)>,
    pub(super) headers: Vec<(HeaderName, Template)>,
    pub(super) timeout: Duration,
    pub(super) fail_open: bool,
    pub(super) allow: Allow,
    pub(super) deny: Deny,
    /// No client may send one, on whatever route: a backend that believes them serves others, too.
    pub(crate) request_headers: Vec<HeaderName>,
    pub(super) refusal_headers: Vec<HeaderName>,
    pub(super) cache: Option<Cache>,
    source: api::Authorizer,
    pool_name: Box<str>,
}

/// See [`api::AuthorizerCache`].
#[derive(Debug)]
pub(super) struct Cache {
    pub(super) key: Template,
    pub(super) answers: Arc<Answers>,
}

/// See [`api::Deny`].
#[derive(Debug)]
pub(super) enum Deny {
    AsAnswered,
    Status(StatusCode),
    Redirect { status: StatusCode, location: Template },
    Drop,
}

/// Whether an authorizer can be used: what `bailey check` says, and the worker itself.
///
/// # Errors
/// What is wrong, and in which key.
pub fn check(authorizer: &api::Authorizer) -> Result<(), String> {
    Ready::new(authorizer, "", None).map(drop)
}

impl Ready {
    /// `last`: the one of this name before, whose answers hold on when it asks the same.
    pub(crate) fn new(source: &api::Authorizer, pool_name: &str, last: Option<&Ready>) -> Result<Ready, String> {
        let text = |key: &str, text: &str| {
            let template = Template::parse(text).map_err(|error| format!("{key}: {error}"))?;
            if template.uses_response() {
                return Err(format!("{key}: {text:?} asks for an answer, which there is none of yet"));
            }
            Ok(template)
        };
        let name = |key: &str, name: &str| {
            let parsed = HeaderName::try_from(name).map_err(|_| format!("{key}: {name:?} is no header name"))?;
            match is_of_connection(&parsed) {
                true => Err(format!("{key}: {name:?} belongs to the connection; leave it out")),
                false => Ok(parsed),
            }
        };
        let bounded = |key: &str, len: usize| match len > MAX_PARTS {
            true => Err(format!("{key}: {len} are too many; at most {MAX_PARTS}")),
            false => Ok(()),
        };
        bounded("query", source.query.len())?;
        bounded("headers", source.headers.len())?;
        bounded("request_headers", source.request_headers.len())?;
        bounded("refusal_headers", source.refusal_headers.len())?;
        let method = Method::from_bytes(source.method.as_bytes())
            .ok()
            .filter(|method| !matches!(*method, Method::CONNECT | Method::TRACE))
            .ok_or_else(|| format!("method: {:?} cannot be asked with", source.method))?;
        let path = text("path", &source.path)?;
        if !source.path.starts_with('/') || source.path.contains(['?', '#']) {
            return Err(format!(
                "path: {:?} is no path; begin it with `/`, and write parameters as `query`",
                source.path
            ));
        }
        let query = |(key, value): &(String, String)| {
            Ok::<_, String>((utf8_percent_encode(key, NON_ALPHANUMERIC).to_string().into(), text("query", value)?))
        };
        let header =
            |(key, value): &(String, String)| Ok::<_, String>((name("headers", key)?, text("headers", value)?));
        let deny = match &source.deny {
            api::Deny::AsAnswered => Deny::AsAnswered,
            api::Deny::Drop => Deny::Drop,
            api::Deny::Status(status) => match StatusCode::from_u16(*status) {
                Ok(status) if status.is_client_error() => Deny::Status(status),
                _ => return Err(format!("deny: {status} is not within 400 to 499")),
            },
            api::Deny::Redirect { status, location } => match status {
                302 | 303 | 307 => Deny::Redirect {
                    status: StatusCode::from_u16(*status).map_err(|error| error.to_string())?,
                    location: text("deny", location)?,
                },
                _ => return Err(format!("deny: {status} is none of 302, 303, 307")),
            },
        };
        let allow = source.allow.clone();
        if allow.status.iter().any(|(low, high)| low > high || !(100..=599).contains(low)) {
            return Err("allow: a range of codes within 100 to 599 is needed".into());
        }
        let names = |key: &str, list: &[String]| list.iter().map(|one| name(key, one)).collect::<Result<Vec<_>, _>>();
        let same = last.filter(|last| last.asks_the_same(source, pool_name)).and_then(|last| last.cache.as_ref());
        let cache = source.cache.as_ref().map(|cache| {
            Ok::<_, String>(Cache {
                key: text("cache.key", &cache.key)?,
                answers: match same {
                    Some(same) => same.answers.clone(),
                    None => Arc::new(Answers::new(cache)),
                },
            })
        });
        Ok(Ready {
            name: source.name.as_str().into(),
            pool: source.pool,
            method,
            host: text("host", &source.host)?,
            path,
            query: source.query.iter().map(query).collect::<Result<_, _>>()?,
            headers: source.headers.iter().map(header).collect::<Result<_, _>>()?,
            timeout: source.timeout,
            fail_open: source.fail_open,
            allow,
            deny,
            request_headers: names("request_headers", &source.request_headers)?,
            refusal_headers: names("refusal_headers", &source.refusal_headers)?,
            cache: cache.transpose()?,
            source: source.clone(),
            pool_name: pool_name.into(),
        })
    }

    /// Answers that are kept.
    pub(crate) fn kept(&self) -> usize {
        self.cache.as_ref().map_or(0, |cache| cache.answers.len())
    }

    fn asks_the_same(&self, source: &api::Authorizer, pool_name: &str) -> bool {
        // The pool's place may have changed; who it is has not.
        let placed = api::Authorizer { pool: self.source.pool, ..source.clone() };
        *self.pool_name == *pool_name && self.source == placed
    }
}

/// What frames and addresses a message.
fn is_of_connection(name: &HeaderName) -> bool {
    let of_message = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::TE,
        header::TRAILER,
    ];
    of_message.contains(name) || matches!(name.as_str(), "upgrade" | "keep-alive" | "cdn-loop")
}
