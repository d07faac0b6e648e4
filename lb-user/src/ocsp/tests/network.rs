//! Exchanges with servers on loopback: a real responder behind one, and such that answer badly.

use super::pki::{Ca, GOOD, REVOKED};
use crate::ocsp::fetch::{FetchError, MAX_RESPONSE, post};
use crate::ocsp::{Ask as _, AskError, MessageError, Responders};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tls_worker::api::OcspStatus;
use tokio::net::TcpListener;

/// An HTTP server on loopback; gives its URL.
async fn serve<F>(answer: F) -> String
where
    F: Fn(Vec<u8>) -> (u16, Vec<u8>) + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/ocsp", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = Arc::clone(&answer);
                async move {
                    assert_eq!(request.headers()["content-type"], "application/ocsp-request");
                    assert!(request.headers().contains_key("host"));
                    let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
                    let (code, body) = tokio::task::spawn_blocking(move || answer(body)).await.unwrap();
                    let mut response = Response::new(Full::new(Bytes::from(body)));
                    *response.status_mut() = code.try_into().unwrap();
                    Ok::<_, Infallible>(response)
                }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(async move { http.serve_connection(TokioIo::new(stream), service).await });
        }
    });
    url
}

#[tokio::test]
async fn a_responder_is_asked_over_http() {
    let ca = Arc::new(Ca::new("ca"));
    let responder = Arc::clone(&ca);
    let url = serve(move |request| (200, responder.respond(&request, None, &["-nmin", "10"]))).await;
    let (checked, response) = Responders.ask(&url, &ca.question(GOOD)).await.unwrap();
    assert_eq!(checked.status, OcspStatus::Good);
    assert!(!response.is_empty());
    let (checked, _) = Responders.ask(&url, &ca.question(REVOKED)).await.unwrap();
    assert_eq!(checked.status, OcspStatus::Revoked);
    let stranger = Ca::new("ca").question(GOOD);
    // It answers about nobody else's certificates.
    assert!(matches!(Responders.ask(&url, &stranger).await, Err(AskError::Message(_))));
}

#[tokio::test]
async fn what_answers_badly_is_no_responder() {
    let question = Ca::new("ca").question(GOOD);
    let garbage = serve(|_| (200, b"<html>no</html>".to_vec())).await;
    let result = Responders.ask(&garbage, &question).await;
    assert!(matches!(result, Err(AskError::Message(MessageError::Malformed(_)))), "{result:?}");
    let deadline = Duration::from_secs(10);
    let moved = serve(|_| (301, vec![])).await;
    assert!(matches!(post(&moved, vec![], deadline).await, Err(FetchError::Status(301))));
    let large = serve(|_| (200, vec![0; MAX_RESPONSE + 1])).await;
    assert!(matches!(post(&large, vec![], deadline).await, Err(FetchError::Body(_))));
    let most = serve(|_| (200, vec![0; MAX_RESPONSE])).await;
    assert_eq!(post(&most, vec![], deadline).await.unwrap().len(), MAX_RESPONSE);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = format!("http://{closed}/");
    assert!(matches!(post(&nobody, vec![], deadline).await, Err(FetchError::Connect { .. })));
}

#[tokio::test]
async fn a_responder_that_is_slow_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let deadline = Duration::from_millis(50);
    let result = post(&url, vec![], deadline).await;
    assert!(matches!(result, Err(FetchError::Deadline(_))), "{result:?}");
}
