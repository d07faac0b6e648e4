//! Other targets: another path, another host.

use crate::api::{self, PathChange, PathMatch};
use crate::http::route::{Pattern, Patterns, has_prefix};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Uri};

/// A [`PathChange`], ready.
#[derive(Debug)]
pub(super) enum NewPath {
    Full(Box<str>),
    /// Without their last slashes.
    Prefix {
        from: Box<str>,
        to: Box<str>,
    },
    Regex {
        pattern: Pattern,
        with: Box<str>,
    },
}

impl NewPath {
    /// `matched`: what the route asks of paths.
    pub(super) fn new(change: &PathChange, matched: &PathMatch, patterns: &mut Patterns) -> Result<NewPath, String> {
        Ok(match change {
            PathChange::Full(path) if is_path(path) => NewPath::Full(path.as_str().into()),
            PathChange::Prefix(to) if is_path(to) => {
                let from = matched.prefix().ok_or("a prefix can be replaced only where a prefix is matched")?;
                NewPath::Prefix { from: from.into(), to: to.trim_end_matches('/').into() }
            }
            PathChange::Full(path) | PathChange::Prefix(path) => return Err(format!("{path:?} is no path")),
            PathChange::Regex { pattern, with } => {
                NewPath::Regex { pattern: patterns.ready(pattern)?, with: with.as_str().into() }
            }
        })
    }

    /// None: nothing is to be replaced.
    pub(super) fn of(&self, path: &str) -> Option<Vec<u8>> {
        match self {
            NewPath::Full(path) => Some(path.as_bytes().to_vec()),
            NewPath::Prefix { from, to } => {
                if !has_prefix(path, from) {
                    return None;
                }
                let new = [to.as_bytes(), &path.as_bytes()[from.len()..]].concat();
                Some(if new.is_empty() { b"/".to_vec() } else { new })
            }
            NewPath::Regex { pattern, with } => pattern.replaced(path.as_bytes(), with.as_bytes()),
        }
    }
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && !path.contains(['?', '#']) && PathAndQuery::try_from(path).is_ok()
}

/// An [`api::Rewrite`], ready.
#[derive(Debug, Default)]
pub(in crate::http) struct Rewrite {
    host: Option<HeaderValue>,
    path: Option<NewPath>,
}

impl Rewrite {
    pub(super) fn new(rewrite: &api::Rewrite, matched: &PathMatch, patterns: &mut Patterns) -> Result<Rewrite, String> {
        let host = |host: &String| {
            let authority =
                host.parse::<Authority>().ok().filter(|a| !a.as_str().contains('@') && !a.host().is_empty());
            authority.and_then(|_| HeaderValue::from_str(host).ok()).ok_or_else(|| format!("{host:?} is no host"))
        };
        let path = rewrite.path.as_ref().map(|path| NewPath::new(path, matched, patterns));
        Ok(Rewrite { host: rewrite.host.as_ref().map(host).transpose()?, path: path.transpose()? })
    }

    /// Host that backends are asked for.
    pub(in crate::http) fn host(&self) -> Option<&HeaderValue> {
        self.host.as_ref()
    }

    /// The target that backends are asked for; None: as it is. The error: what came of it is none.
    pub(in crate::http) fn target(&self, uri: &Uri) -> Result<Option<Uri>, ()> {
        let path = uri.path();
        let Some(mut new) = self.path.as_ref().filter(|_| path.starts_with('/')).and_then(|change| change.of(path))
        else {
            return Ok(None);
        };
        if !new.starts_with(b"/") {
            return Err(());
        }
        if let Some(query) = uri.query() {
            new.push(if new.contains(&b'?') { b'&' } else { b'?' });
            new.extend_from_slice(query.as_bytes());
        }
        PathAndQuery::from_maybe_shared(new).map(|target| Some(Uri::from(target))).map_err(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rewrite(path: PathChange, matched: &str) -> Rewrite {
        let matched = PathMatch::Prefix(matched.into());
        let rewrite = api::Rewrite { path: Some(path), ..api::Rewrite::default() };
        Rewrite::new(&rewrite, &matched, &mut Patterns::default()).unwrap()
    }

    #[test]
    fn paths_are_replaced_whole_by_prefix_and_by_expression() {
        let prefix = |to: &str| PathChange::Prefix(to.into());
        let regex = |pattern: &str, with: &str| PathChange::Regex { pattern: pattern.into(), with: with.into() };
        for (change, matched, from, to) in [
            (PathChange::Full("/x".into()), "/", "/a/b?q=1", Some("/x?q=1")),
            // The table of Gateway API's HTTPPathModifier.
            (prefix("/xyz"), "/foo", "/foo/bar", Some("/xyz/bar")),
            (prefix("/xyz/"), "/foo", "/foo/bar", Some("/xyz/bar")),
            (prefix("/xyz"), "/foo/", "/foo/bar", Some("/xyz/bar")),
            (prefix("/xyz"), "/foo", "/foo", Some("/xyz")),
            (prefix("/xyz"), "/foo", "/foo/", Some("/xyz/")),
            (prefix("/"), "/foo", "/foo/bar", Some("/bar")),
            (prefix("/"), "/foo", "/foo/", Some("/")),
            (prefix("/"), "/foo", "/foo?q", Some("/?q")),
            (prefix("/app"), "/", "/", Some("/app/")),
            (prefix("/app"), "/", "*", None),
            (regex("^/u/([a-z]+)$", "/users?name=$1"), "/", "/u/joe?x=1", Some("/users?name=joe&x=1")),
            (regex("^/u/([a-z]+)$", "/users?name=$1"), "/", "/v/joe?x=1", None),
        ] {
            let target = rewrite(change, matched).target(&from.parse().unwrap()).unwrap();
            assert_eq!(target.map(|uri| uri.to_string()).as_deref(), to, "{matched} {from}");
        }
        assert!(rewrite(regex("^/", ""), "/").target(&"/a".parse().unwrap()).is_err());
        assert!(rewrite(regex("^/", "/ "), "/").target(&"/a".parse().unwrap()).is_err());
    }

    proptest! {
        /// Whatever a client asks for, what is made of it is a target, or the request is refused.
        #[test]
        fn a_rewritten_target_is_one(path in "/[!-~]{0,20}", with in "[!-~]{0,10}") {
            let Ok(uri) = path.parse::<Uri>() else { return Ok(()) };
            let rewrite = rewrite(PathChange::Regex { pattern: "^(/.?)".into(), with: format!("$1{with}") }, "/");
            if let Ok(Some(new)) = rewrite.target(&uri) {
                prop_assert!(new.path().starts_with('/'));
                prop_assert!(!new.to_string().contains([' ', '\r', '\n', '#']));
            }
        }
    }
}
