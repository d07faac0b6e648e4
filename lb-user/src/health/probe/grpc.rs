//! The health service of gRPC (grpc/grpc, doc/health-checking.md): `grpc.health.v1.Health/Check`.

use super::connect::open;
use super::http::{AGENT, drive, fault, speaks_h2};
use super::{Answer, Fault, Question, quote};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;

/// An answer is two bytes and a prefix of five.
const MAX_MESSAGE: usize = 1024;
const NAMES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: i32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

pub(super) async fn ask(question: Question<'_>, service: &str) -> Answer {
    let line = open(question).await?;
    speaks_h2(question, &line)?;
    let request = request(question, service).map_err(|e| Fault::Edge(format!("request: {e}")))?;
    let io = TokioIo::new(line.stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.map_err(fault)?;
    let _driven = drive(connection);
    let (head, body) = sender.send_request(request).await.map_err(fault)?.into_parts();
    let code = head.status.as_u16();
    if code != 200 {
        return Ok((false, format!("HTTP {code}")));
    }
    let body = Limited::new(body, MAX_MESSAGE).collect().await;
    let body = body.map_err(|e| Fault::Backend(format!("gRPC: {e}")))?;
    // A call that failed at once has its status in the header.
    let told = |map: &HeaderMap| map.get("grpc-status").map(|value| value.as_bytes().to_vec());
    let status = body.trailers().and_then(told).or_else(|| told(&head.headers));
    Ok(judge(status.as_deref(), &body.to_bytes()))
}

fn request(question: Question<'_>, service: &str) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let message = HealthCheckRequest { service: service.to_owned() }.encode_to_vec();
    // Not compressed, and its length (PROTOCOL-HTTP2.md, Length-Prefixed-Message).
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    body.extend_from_slice(&message);
    let scheme = if question.prepared.tls.is_some() { "https" } else { "http" };
    Request::post(format!("{scheme}://{}/grpc.health.v1.Health/Check", question.backend))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, AGENT)
        .body(Full::new(body.into()))
}

/// What the end of a call and its message say. Pure.
pub fn judge(status: Option<&[u8]>, body: &[u8]) -> (bool, String) {
    match status {
        Some(b"0") => {}
        // UNIMPLEMENTED: the server has no such service; NOT_FOUND: its health service knows no such name.
        Some(b"12") => return (false, "gRPC status 12: the backend has no health service".into()),
        Some(b"5") => return (false, "gRPC status 5: the backend knows no such service".into()),
        Some(other) => return (false, format!("gRPC status {}", quote(other))),
        None => return (false, "gRPC: no status".into()),
    }
    let message = match body.split_at_checked(5) {
        Some(([0, length @ ..], message)) if length == u32::try_from(message.len()).unwrap_or(0).to_be_bytes() => {
            message
        }
        _ => return (false, "gRPC: no message that could be read".into()),
    };
    match HealthCheckResponse::decode(message) {
        Ok(said) => {
            let name = usize::try_from(said.status).ok().and_then(|at| NAMES.get(at)).copied().unwrap_or("UNKNOWN");
            (said.status == SERVING, format!("gRPC {name}"))
        }
        Err(_) => (false, "gRPC: no message that could be read".into()),
    }
}
