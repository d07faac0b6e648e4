//! WebSocket with a real client and server (tungstenite), over HTTP/1.1 and over a stream of HTTP/2.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Version};
use http_body_util::Empty;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lb_tests::backend::Backend;
use lb_tests::client::{Target, within};
use lb_tests::harness::{Test, plain};
use lb_tests::here::{Here, free_address};
use lb_tests::lab::HOST;
use lb_tests::netns::runtime;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

pub(crate) fn tests() -> Vec<Test> {
    vec![plain("messages_pass_a_websocket_over_http1_and_over_a_stream_of_http2", messages)]
}

fn messages() -> Result<()> {
    let here = Here::new()?;
    let backend = Backend::start_here("app")?;
    let at = free_address()?;
    let _edge = here.start(&format!(
        "{}[service.web]\naddresses = [\"{at}\"]\nmode = \"https\"\ncertificates = [\"lab\"]\npool = \"app\"\n\
         [pool.app]\nbackends = [\"{}\"]\n",
        here.head(""),
        backend.address
    ))?;
    let target = here.target(at, HOST)?;
    runtime()?.block_on(async {
        let back = target.websocket("/chat", &["over", "HTTP/1.1"]).await?;
        ensure!(back == ["over", "HTTP/1.1"], "{back:?}");
        within("a WebSocket over HTTP/2", over_http2(&target)).await
    })?;
    let seen = backend.seen();
    let last = seen.last().context("nothing came")?;
    ensure!(last.line == "GET /chat" && last.headers["x-forwarded-host"] == HOST, "{last:?}");
    Ok(())
}

async fn over_http2(target: &Target) -> Result<()> {
    let stream = TokioIo::new(target.tls(&["h2"]).await?);
    let (mut send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
    tokio::spawn(connection);
    let get = Request::get(format!("https://{HOST}/")).version(Version::HTTP_2).body(Empty::<Bytes>::new())?;
    // With its answer the edge's settings have come.
    ensure!(send.send_request(get).await?.status() == 200);
    let connect = Request::connect(format!("https://{HOST}/chat")).version(Version::HTTP_2);
    let mut connect = connect.body(Empty::new())?;
    connect.extensions_mut().insert(Protocol::from_static("websocket"));
    let answer = send.send_request(connect).await?;
    ensure!(answer.status() == 200, "{answer:?}");
    let tunnel = TokioIo::new(hyper::upgrade::on(answer).await?);
    let mut socket = WebSocketStream::from_raw_socket(tunnel, Role::Client, None).await;
    for text in ["over", "HTTP/2", &"x".repeat(100_000)] {
        socket.send(Message::text(text)).await?;
        let back = socket.next().await.context("it ended")??;
        ensure!(back.to_text()? == text);
    }
    socket.close(None).await?;
    while let Some(Ok(_)) = socket.next().await {}
    Ok(())
}
