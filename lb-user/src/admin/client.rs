//! The command line's side of the socket.

use super::api::{Failure, WatchLine, WatchRequest};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// For a whole request. The daemon's own deadlines are shorter.
const DEADLINE: Duration = Duration::from_secs(100);
/// Longest answer, bytes.
const MAX_ANSWER: usize = 64 << 20;
/// Longest line of a stream, bytes.
const MAX_LINE: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or not for us.
    #[error("cannot reach the daemon on {path}: {source}")]
    Unreachable {
        /// Socket.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It was refused, and nothing changed.
    #[error("{}", .0.error)]
    Refused(Failure),
    /// It broke off or is no bailey.
    #[error("the daemon on {path} gave no usable answer: {why}")]
    Broken {
        /// Socket.
        path: PathBuf,
        /// How.
        why: String,
    },
}

impl ClientError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Some("join the group that owns the socket (ls -l shows it), or be root".into())
            }
            Self::Unreachable { .. } => {
                Some("is \"bailey run\" up? Another place is named by --socket or BAILEY_SOCKET".into())
            }
            Self::Refused(failure) => failure.hint.clone(),
            Self::Broken { .. } => Some("are bailey and the daemon of one release?".into()),
        }
    }
}

/// Asks the daemon, one connection a request.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// For the daemon on this socket.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Read.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Change.
    pub async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| self.broken(e))?;
        self.ask(Method::POST, path, body.into()).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, ClientError> {
        let (good, answer) = timeout(DEADLINE, self.exchange(method, path, body))
            .await
            .unwrap_or_else(|_| Err(self.broken(format!("none within {DEADLINE:?}"))))?;
        if good {
            return serde_json::from_slice(&answer).map_err(|e| self.broken(e));
        }
        Err(ClientError::Refused(serde_json::from_slice(&answer).map_err(|e| self.broken(e))?))
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(bool, Bytes), ClientError> {
        let response = self.send(method, path, body).await?;
        let good = response.status().is_success();
        Ok((good, self.whole(response).await?))
    }

    async fn whole(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|e| self.broken(e))?;
        Ok(body.to_bytes())
    }

    /// Watch: each line is given as it comes, until `line` breaks or the daemon ends.
    pub async fn watch(
        &self,
        request: &WatchRequest,
        mut line: impl FnMut(WatchLine) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ClientError> {
        let body = serde_json::to_vec(request).map_err(|e| self.broken(e))?;
        let late = |_| self.broken(format!("none within {DEADLINE:?}"));
        let sent = self.send(Method::POST, "/v1/watch", body.into());
        let response = timeout(DEADLINE, sent).await.map_err(late)??;
        if !response.status().is_success() {
            let answer = timeout(DEADLINE, self.whole(response)).await.map_err(late)??;
            return Err(ClientError::Refused(serde_json::from_slice(&answer).map_err(|e| self.broken(e))?));
        }
        let (mut body, mut buffer) = (response.into_body(), Vec::new());
        // A daemon that was killed ends the stream in its midst: an end all the same.
        while let Some(Ok(frame)) = timeout(DEADLINE, body.frame()).await.map_err(late)? {
            buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            let whole = buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let rest = buffer.split_off(whole);
            for text in buffer.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()) {
                if line(serde_json::from_slice(text).map_err(|e| self.broken(e))?).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            buffer = rest;
            if buffer.len() > MAX_LINE {
                return Err(self.broken("a line without an end"));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|source| ClientError::Unreachable { path: self.path.clone(), source })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.broken(e))?;
        // Ends with the stream, and that ends with the sender and the answer.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "bailey")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|e| self.broken(e))?;
        sender.send_request(request).await.map_err(|e| self.broken(e))
    }

    fn broken(&self, why: impl ToString) -> ClientError {
        ClientError::Broken { path: self.path.clone(), why: why.to_string() }
    }
}
