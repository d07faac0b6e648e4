//! One check: the I/O beside the machine.
//!
//! A check says what it found of the backend. What the edge itself could not do (no descriptor, no such user, an address
//! that it has not) is no finding: the backend stays as it is.

mod connect;
mod dns;
mod grpc;
mod http;
mod icmp;
mod ldap;
mod script;
mod text;

/// What reads a backend's bytes, for those who try to break it: each says whether the answer is good, or nothing yet.
pub mod answers {
    pub use super::dns::read as dns;
    pub use super::grpc::judge as grpc;
    pub use super::ldap::judge as ldap;
    pub use super::text::Search;
}

use crate::config::{HealthCheck, Probe};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tls_worker::api::tls::{TlsError, UpstreamIdentity, upstream_identity};
use tokio::time::{Instant, timeout};
use tokio_rustls::rustls::ClientConfig;

/// Bytes of an answer that are looked through.
const MAX_ANSWER: usize = 64 << 10;
/// Characters of what a backend says that go into a cause.
const MAX_QUOTE: usize = 80;

/// What all checks share.
#[derive(Debug, Default)]
pub struct Tools {
    pings: icmp::Pings,
}

impl Tools {
    /// Let go of what was kept open for checks that may be no more.
    pub fn forget(&self) {
        self.pings.forget();
    }
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The backend is as it should be.
    Good,
    /// It is not.
    Bad,
    /// The edge could not ask.
    Unable,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What it found.
    pub found: Found,
    /// For people: `HTTP 503 after 12 ms`.
    pub text: String,
    /// How long it took.
    pub took: Duration,
}

/// A check that is ready to be made, of whatever backend.
#[derive(Debug)]
pub struct Prepared {
    /// How.
    pub check: Arc<HealthCheck>,
    tls: Option<(UpstreamIdentity, Arc<ClientConfig>)>,
}

impl Prepared {
    /// Read its certificates; the config was checked by the same function.
    pub fn new(check: Arc<HealthCheck>) -> Result<Self, TlsError> {
        let tls = match &check.tls {
            None => None,
            Some(tls) => {
                let identity = upstream_identity(tls)?;
                let config = match &check.probe {
                    Probe::Http(http) if !http.http2 => identity.for_checks(["http/1.1"].into_iter()),
                    Probe::Http(_) | Probe::Grpc { .. } => identity.for_checks(["h2"].into_iter()),
                    Probe::Ldap(_) => identity.for_checks([].into_iter()),
                    _ => identity.for_checks(identity.alpn()),
                };
                Some((identity, config))
            }
        };
        Ok(Self { check, tls })
    }
}

/// Whose fault it is that a check is not good.
#[derive(Debug)]
enum Fault {
    Backend(String),
    Edge(String),
}

/// Good or not, and what there was; or why there is nothing.
type Answer = Result<(bool, String), Fault>;

/// One question to one backend.
#[derive(Clone, Copy)]
struct Question<'a> {
    backend: SocketAddr,
    /// Where it is asked.
    to: SocketAddr,
    prepared: &'a Prepared,
}

/// Check a backend once. Never longer than the check's timeout.
pub async fn probe(backend: SocketAddr, prepared: &Prepared, tools: &Tools) -> Outcome {
    let began = Instant::now();
    let check = &prepared.check;
    let question = Question { backend, to: check.destination(backend), prepared };
    let (found, what) = match timeout(check.timeout, ask(question, &tools.pings)).await {
        Ok(Ok((good, what))) => (good, what),
        Ok(Err(Fault::Backend(why))) => (false, why),
        Ok(Err(Fault::Edge(why))) => {
            return Outcome { found: Found::Unable, text: why, took: began.elapsed() };
        }
        Err(_) => (false, "no answer".into()),
    };
    let took = began.elapsed();
    // A reversed check is good when the other would not be.
    let found = if found != check.reverse { Found::Good } else { Found::Bad };
    Outcome { found, text: format!("{what} after {} ms", took.as_millis()), took }
}

/// Boxed, as the kinds differ much in size.
type Asking<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

fn ask<'a>(question: Question<'a>, pings: &'a icmp::Pings) -> Asking<'a> {
    match &question.prepared.check.probe {
        Probe::Tcp => Box::pin(connect::only(question)),
        Probe::Tls => Box::pin(connect::handshake(question)),
        Probe::Http(http) => Box::pin(http::ask(question, http)),
        Probe::Text(text) => Box::pin(text::ask(question, text)),
        Probe::Dns(dns) => Box::pin(dns::ask(question, dns)),
        Probe::Icmp => Box::pin(icmp::ask(question, pings)),
        Probe::Ldap(ldap) => Box::pin(ldap::ask(question, ldap)),
        Probe::Grpc { service } => Box::pin(grpc::ask(question, service)),
        Probe::Script(script) => Box::pin(script::ask(question, script)),
    }
}

/// What a backend says, for a cause: one short line.
fn quote(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line: String = text.trim().chars().take(MAX_QUOTE).flat_map(char::escape_debug).collect();
    format!("\"{line}\"")
}
