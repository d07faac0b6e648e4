//! HTTP/1.1 and HTTP/2: a request, the code of its answer, what its body holds.

use super::connect::{Line, open};
use super::text::Search;
use super::{Answer, Fault, Question};
use crate::config::HttpProbe;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::future::Future;
use tokio::task::JoinSet;

/// How checks call themselves.
pub(super) const AGENT: &str = concat!("bailey/", env!("CARGO_PKG_VERSION"));
const H2: &[u8] = b"h2";

pub(super) async fn ask(question: Question<'_>, probe: &HttpProbe) -> Answer {
    let line = open(question).await?;
    let request = request(question, probe).map_err(|e| Fault::Edge(format!("request: {e}")))?;
    if probe.http2 { over2(question, line, request, probe).await } else { over1(line, request, probe).await }
}

fn request(question: Question<'_>, probe: &HttpProbe) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let authority = probe.host.clone().unwrap_or_else(|| question.backend.to_string());
    let mut request = Request::builder().method(probe.method.as_str());
    if probe.http2 {
        let scheme = if question.prepared.tls.is_some() { "https" } else { "http" };
        request = request.uri(format!("{scheme}://{authority}{}", probe.path));
    } else {
        request = request.uri(&probe.path).header(header::HOST, authority).header(header::CONNECTION, "close");
    }
    if !probe.headers.iter().any(|(name, _)| name == header::USER_AGENT.as_str()) {
        request = request.header(header::USER_AGENT, AGENT);
    }
    for (name, value) in &probe.headers {
        request = request.header(name, value);
    }
    request.body(Empty::new())
}

async fn over1(line: Line, request: Request<Empty<Bytes>>, probe: &HttpProbe) -> Answer {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(line.stream)).await.map_err(fault)?;
    let _driven = drive(connection);
    let response = sender.send_request(request).await.map_err(fault)?;
    judge(response, probe).await
}

async fn over2(question: Question<'_>, line: Line, request: Request<Empty<Bytes>>, probe: &HttpProbe) -> Answer {
    speaks_h2(question, &line)?;
    let io = TokioIo::new(line.stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.map_err(fault)?;
    let _driven = drive(connection);
    let response = sender.send_request(request).await.map_err(fault)?;
    judge(response, probe).await
}

/// Over TLS it must have been agreed on.
pub(super) fn speaks_h2(question: Question<'_>, line: &Line) -> Result<(), Fault> {
    match question.prepared.tls.is_none() || line.alpn.as_deref() == Some(H2) {
        true => Ok(()),
        false => Err(Fault::Backend("TLS: the backend does not offer h2".into())),
    }
}

pub(super) fn fault(error: hyper::Error) -> Fault {
    // hyper names the kind and keeps the cause to itself.
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Fault::Backend(format!("HTTP: {error}{cause}"))
}

/// Have a connection driven until what this returns goes: a deadline leaves nothing behind.
pub(super) fn drive(connection: impl Future<Output: Send> + Send + 'static) -> JoinSet<()> {
    let mut driven = JoinSet::new();
    driven.spawn(async move {
        // How it ended shows in the answer.
        connection.await;
    });
    driven
}

async fn judge(response: Response<Incoming>, probe: &HttpProbe) -> Answer {
    let code = response.status().as_u16();
    let said = format!("HTTP {code}");
    let good = probe.codes.iter().any(|(low, high)| (*low..=*high).contains(&code));
    let Some(wanted) = probe.body.as_deref().filter(|_| good) else { return Ok((good, said)) };
    let mut search = Search::new(wanted.as_bytes());
    let mut body = response.into_body();
    while !search.is_over() {
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    search.take(data);
                }
            }
            Some(Err(error)) => return Err(fault(error)),
            None => break,
        }
    }
    Ok(if search.found() {
        (true, format!("{said} with its text"))
    } else {
        (false, format!("{said}, {}", search.lacks()))
    })
}
