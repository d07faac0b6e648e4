//! What a route does with a request, made ready: `stage` stands on a request's way, `split` and `mirror` choose pools, `redirect` and `fixed` answer without one,
//! `rewrite` and `headers` change what a backend is asked, `locations` and `cookies` what it said.

pub(super) mod cookies;
pub(super) mod fixed;
pub(super) mod headers;
pub(super) mod locations;
pub(super) mod mirror;
pub(super) mod redirect;
pub(super) mod rewrite;
pub(crate) mod split;
pub(super) mod stage;

use super::route::Patterns;
use crate::api::{self, ClientCertField, EdgeAnswer, PoolShare};
use crate::tls;
use fixed::Fixed;
use headers::Change;
use http::HeaderName;
use locations::Moved;
use redirect::Redirect;
use rewrite::Rewrite;
use std::sync::Arc;
use std::time::Duration;

/// An [`api::Route`], ready.
#[derive(Debug)]
pub(crate) struct CompiledRoute {
    pub(crate) name: Arc<str>,
    /// Where connections without HTTP go.
    pub(crate) pool: usize,
    /// Where requests go; empty where the edge answers.
    pub(crate) shares: Box<[PoolShare]>,
    pub(crate) client_cert: Vec<(HeaderName, ClientCertField)>,
    /// Into [`crate::compile::Compiled::authorizers`].
    pub(crate) authorizer: Option<usize>,
    pub(crate) compression: Option<api::Compression>,
    /// Longest body, bytes, in place of the service's; 0: no bound.
    pub(super) max_body: Option<u64>,
    pub(super) answer: Option<Answer>,
    pub(crate) mirror: Option<api::Mirror>,
    pub(super) rewrite: Rewrite,
    /// What answers of backends are changed for.
    pub(super) moved: Moved,
    pub(super) request_headers: Box<[Change]>,
    pub(super) response_headers: Box<[Change]>,
    /// Over everything.
    pub(super) timeout: Option<Duration>,
    /// In place of the pool's.
    pub(super) response_timeout: Option<Duration>,
    /// None: as the pool says.
    pub(super) retry: Option<api::Retry>,
}

/// An [`EdgeAnswer`], ready.
#[derive(Debug)]
pub(super) enum Answer {
    Redirect(Redirect),
    Fixed(Fixed),
}

impl CompiledRoute {
    /// The error says what is wrong, and in which route.
    pub(crate) fn new(route: &api::Route, patterns: &mut Patterns) -> Result<Self, String> {
        Self::ready(route, patterns).map_err(|problem| format!("route {:?}: {problem}", route.name))
    }

    fn ready(route: &api::Route, patterns: &mut Patterns) -> Result<Self, String> {
        let header = |header: &api::ClientCertHeader| {
            let name = tls::client_cert_header(header).map_err(|e| e.to_string())?;
            Ok::<_, String>((name, header.value))
        };
        let answer = match &route.answer {
            None => None,
            Some(EdgeAnswer::Redirect(redirect)) => {
                Some(Answer::Redirect(Redirect::new(redirect, &route.path, patterns)?))
            }
            Some(EdgeAnswer::Fixed(fixed)) => Some(Answer::Fixed(Fixed::new(fixed)?)),
        };
        let shares = route.shares();
        if answer.is_none() && shares.iter().all(|share| share.weight == 0) {
            return Err("no pool has a share".into());
        }
        let rewrite = Rewrite::new(&route.rewrite, &route.path, patterns)?;
        Ok(CompiledRoute {
            name: route.name.as_str().into(),
            pool: route.pool,
            shares: shares.into(),
            client_cert: route.client_cert.iter().map(header).collect::<Result<_, _>>()?,
            authorizer: route.authorizer,
            compression: route.compression.clone(),
            max_body: route.max_body,
            answer,
            mirror: route.mirror.clone(),
            moved: Moved::new(&route.rewrite, &route.path),
            rewrite,
            request_headers: headers::changes(&route.request_headers, false)?,
            response_headers: headers::changes(&route.response_headers, true)?,
            timeout: route.timeout,
            response_timeout: route.response_timeout,
            retry: route.retry.clone(),
        })
    }

    /// Whether something of the request is asked when its answer is there.
    pub(super) fn remembers_request(&self) -> bool {
        self.response_headers.iter().any(Change::has_variables)
    }
}
