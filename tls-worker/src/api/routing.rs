//! Which requests a route takes: Gateway API's words (path, method, header, query), and what an edge knows besides: the
//! client's address, its certificate, the name that it asked for.

use super::{ClientCertField, Route};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// Deepest nesting of [`Condition`]s.
pub const MAX_CONDITION_DEPTH: usize = 16;

/// What a path must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    /// Anything.
    #[default]
    Any,
    /// This, to the byte.
    Exact(String),
    /// Gateway API's `PathPrefix`: whole path elements.
    Prefix(String),
    /// This is found in it; `^` and `$` stand for its ends.
    Regex(String),
}

impl PathMatch {
    /// The prefix, without its last slash; empty where every path has it. None: it is no prefix that is asked for.
    pub fn prefix(&self) -> Option<&str> {
        match self {
            PathMatch::Any => Some(""),
            PathMatch::Prefix(prefix) => Some(prefix.trim_end_matches('/')),
            PathMatch::Exact(_) | PathMatch::Regex(_) => None,
        }
    }

    /// As people write it.
    pub fn shown(&self) -> String {
        match self {
            PathMatch::Any => "/".into(),
            PathMatch::Exact(path) => format!("= {path}"),
            PathMatch::Prefix(prefix) => prefix.clone(),
            PathMatch::Regex(regex) => format!("~ {regex}"),
        }
    }
}

/// What a value must be. One that is not there is nothing of all this.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextMatch {
    /// There.
    Present,
    /// This.
    Exact(String),
    /// It begins so.
    Prefix(String),
    /// It ends so.
    Suffix(String),
    /// It holds this.
    Contains(String),
    /// This regular expression is found in it.
    Regex(String),
}

/// A header or a parameter of the query, by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FieldMatch {
    /// Name.
    pub name: String,
    /// Of several headers of the name, one must be this.
    pub is: TextMatch,
}

/// What a value is taken from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A header.
    Header(String),
    /// A parameter of the query, decoded.
    Query(String),
    /// A cookie.
    Cookie(String),
    /// A part of the client's certificate, verified or not. Of several alternative names, one must match.
    ClientCert(ClientCertField),
    /// A text with variables.
    Text(String),
}

/// What a request must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Each of these.
    All(Vec<Condition>),
    /// One of these.
    Any(Vec<Condition>),
    /// Anything else than this.
    Not(Box<Condition>),
    /// Its host is one of these, `*.` allowed in front.
    Host(Vec<String>),
    /// The name that the client asked for by SNI is one of these.
    Sni(Vec<String>),
    /// Its path.
    Path(PathMatch),
    /// One of these methods.
    Method(Vec<String>),
    /// Its client's address is in one of these networks.
    Client(Vec<IpNet>),
    /// A value.
    Value {
        /// Taken from here.
        of: Subject,
        /// What it must be.
        is: TextMatch,
    },
}

impl Condition {
    /// Whether it nests no deeper than may be.
    pub fn is_shallow(&self) -> bool {
        fn within(condition: &Condition, left: usize) -> bool {
            match condition {
                Condition::All(list) | Condition::Any(list) => {
                    left > 0 && list.iter().all(|inner| within(inner, left - 1))
                }
                Condition::Not(inner) => left > 0 && within(inner, left - 1),
                _ => true,
            }
        }
        within(self, MAX_CONDITION_DEPTH)
    }
}

/// A route's place for one of its hosts; the least is tried first. What is equal is tried in the order of the config.
pub type Rank = (Reverse<u32>, (u8, Reverse<usize>), (u8, Reverse<usize>), bool, Reverse<usize>, Reverse<usize>, bool);

impl Route {
    /// The order of Gateway API: by priority, where one is given; exact host, then the longest wildcard, then none; exact
    /// path, then the longest prefix, then a regular expression, then none; then who asks for a method, for more headers, for
    /// more of the query, for a protocol. `host` is one of the route's, or none where it has none.
    pub fn rank(&self, host: Option<&str>) -> Rank {
        let host = match host {
            None | Some("*") => (2, Reverse(0)),
            Some(host) if host.starts_with("*.") => (1, Reverse(host.len())),
            Some(_) => (0, Reverse(0)),
        };
        let path = match &self.path {
            PathMatch::Exact(_) => (0, Reverse(0)),
            PathMatch::Prefix(prefix) if prefix.trim_end_matches('/').is_empty() => (3, Reverse(0)),
            PathMatch::Prefix(prefix) => (1, Reverse(prefix.trim_end_matches('/').len())),
            PathMatch::Regex(_) => (2, Reverse(0)),
            PathMatch::Any => (3, Reverse(0)),
        };
        let (headers, query) = (Reverse(self.headers.len()), Reverse(self.query.len()));
        // What else is asked makes a route more special than one that does not ask.
        let plain = self.alpn.is_empty() && self.when.is_none();
        (Reverse(self.priority), host, path, self.methods.is_empty(), headers, query, plain)
    }

    /// Its hosts as [`Route::rank`] takes them: none alone, where it takes every host.
    pub fn each_host(&self) -> impl Iterator<Item = Option<&str>> {
        let every = self.hosts.is_empty().then_some(None);
        self.hosts.iter().map(|host| Some(host.as_str())).chain(every)
    }
}
