//! What a route does with the requests that it takes.

use super::Route;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A pool's share of a route's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolShare {
    /// Into [`super::Snapshot::pools`].
    pub pool: usize,
    /// 0 to 65535, not zero for all.
    pub weight: u16,
}

/// An answer that the edge makes itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeAnswer {
    /// The client is to ask elsewhere.
    Redirect(Redirect),
    /// This.
    Fixed(FixedAnswer),
}

/// Where the client is sent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Redirect {
    /// A text with variables that is the whole address; what follows counts without it only.
    pub to: Option<String>,
    /// `http` or `https`; none: as the request came.
    pub scheme: Option<String>,
    /// None: as the client asked.
    pub host: Option<String>,
    /// None: the scheme's own, where the scheme is given; else as the client asked.
    pub port: Option<u16>,
    /// None: as the client asked.
    pub path: Option<PathChange>,
    /// The query is left out.
    pub drop_query: bool,
    /// 301, 302, 303, 307 or 308.
    pub code: u16,
}

/// Another path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathChange {
    /// This in place of the whole path.
    Full(String),
    /// This in place of the route's prefix.
    Prefix(String),
    /// What the expression finds first is replaced; `$1`, `${name}` stand for its groups.
    Regex {
        /// Regular expression.
        pattern: String,
        /// What stands in place of it.
        with: String,
    },
}

/// An answer that is always the same.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FixedAnswer {
    /// 200 to 599.
    pub status: u16,
    /// At most [`MAX_FIXED_BODY`] bytes.
    pub body: String,
    /// None: `text/plain; charset=utf-8`, where there is a body.
    pub content_type: Option<String>,
}

/// Longest body of a [`FixedAnswer`], bytes.
pub const MAX_FIXED_BODY: usize = 64 << 10;

/// What becomes of a request on its way to a backend, and of the answer for that.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rewrite {
    /// Host that the backend is asked for.
    pub host: Option<String>,
    /// Path that it is asked for; the query stays.
    pub path: Option<PathChange>,
    /// `Location`, `Content-Location` and `Refresh` of answers are left as they are.
    pub keep_locations: bool,
    /// Cookies of answers are left as they are.
    pub keep_cookies: bool,
}

/// A change of headers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderAction {
    /// Name, lower case.
    pub name: String,
    /// What becomes of it.
    pub change: HeaderChange,
}

/// What becomes of a header. Values are texts with variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderChange {
    /// This alone. Undefined: none.
    Set(String),
    /// This besides. Undefined: none.
    Add(String),
    /// None.
    Remove,
}

/// Requests that a second pool gets too; nobody waits for its answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mirror {
    /// Into [`super::Snapshot::pools`].
    pub pool: usize,
    /// 1 to 100.
    pub percent: u8,
    /// A request with a longer body is not mirrored; bytes.
    pub max_body: u32,
    /// Mirrored requests at once, of one thread; more are not sent.
    pub max_in_flight: u32,
    /// From the request's last byte to the end of the answer.
    pub timeout: Duration,
}

impl Route {
    /// Every pool that answers requests of it, by share; none where the edge answers.
    pub fn shares(&self) -> Vec<PoolShare> {
        match (&self.answer, &self.split[..]) {
            (Some(_), _) => Vec::new(),
            (None, []) => vec![PoolShare { pool: self.pool, weight: 1 }],
            (None, split) => split.to_vec(),
        }
    }

    /// Every pool that it sends anything to.
    pub fn pools(&self) -> impl Iterator<Item = usize> {
        let shares = self.shares().into_iter().map(|share| share.pool);
        shares.chain(self.mirror.as_ref().map(|mirror| mirror.pool))
    }
}

/// Whether the config may change a header. What frames and addresses a message, belongs to one connection, or is the
/// edge's own word of the client, is not to be had: the error says why.
pub fn changeable_header(name: &str) -> Result<(), &'static str> {
    match name {
        "host" => Err("`rewrite` changes the host"),
        "content-length" | "transfer-encoding" | "trailer" => Err("it frames the message"),
        "connection" | "keep-alive" | "te" | "upgrade" | "expect" | "http2-settings" => {
            Err("it belongs to one connection")
        }
        "client-cert" | "client-cert-chain" => Err("`client_cert_headers` sets it"),
        _ if name.starts_with("proxy-") => Err("it belongs to one connection"),
        _ if crate::http::is_edges_own(name) => Err("it is the edge's own word of the client"),
        _ => Ok(()),
    }
}
