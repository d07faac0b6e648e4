//! Words of authorizers: who is asked before a request goes on, with what, and what the answer means.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A callout: a subrequest whose answer allows or denies the request that waits for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Authorizer {
    /// Name, unique.
    pub name: String,
    /// Who is asked; into [`super::Snapshot::pools`].
    pub pool: usize,
    /// Method, such as `GET`. The subrequest has no body.
    pub method: String,
    /// `Host` of the subrequest, a text with variables.
    pub host: String,
    /// Path, a text with variables. It is sent as it comes out, so variables in it want `urlencode`.
    pub path: String,
    /// Parameters of the query: name, and value as a text with variables, which is percent-encoded. One whose value is
    /// undefined is sent empty.
    pub query: Vec<(String, String)>,
    /// Headers: name, and value as a text with variables. One whose value is undefined is left out.
    pub headers: Vec<(String, String)>,
    /// From the begin of the callout to the end of its answer. Whoever waits for another's waits no longer.
    pub timeout: Duration,
    /// What a callout that fails means: true lets the request pass.
    pub fail_open: bool,
    /// When the answer allows.
    pub allow: Allow,
    /// What a client is told that may not pass.
    pub deny: Deny,
    /// Headers of the answer that an allowed request goes on with. What clients send under these names is removed.
    pub request_headers: Vec<String>,
    /// Headers of the answer that a refusal has.
    pub refusal_headers: Vec<String>,
    /// Answers are kept; none: every request is a callout.
    pub cache: Option<AuthorizerCache>,
}

/// What an answer must be to allow; all of it that is said.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Allow {
    /// Codes, both ends included.
    pub status: Vec<(u16, u16)>,
    /// Text of the body.
    pub body: Option<BodyTest>,
}

/// A condition on a body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BodyTest {
    /// Bytes of the body that are looked at, from its begin.
    pub first: u32,
    /// How.
    pub test: TextTest,
    /// What is looked for.
    pub text: String,
}

/// How a text is compared. Letters count as they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextTest {
    /// It is the text, but for spaces and line ends around it.
    Equals,
    /// It begins with the text.
    Prefix,
    /// The text is in it.
    Contains,
}

/// What a client is told that may not pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deny {
    /// The answer's own status where it is 401 or 403, else 403.
    AsAnswered,
    /// This status, of 400 to 499.
    Status(u16),
    /// A redirect (302, 303 or 307) to a text with variables.
    Redirect {
        /// Status.
        status: u16,
        /// `Location`.
        location: String,
    },
    /// The connection is closed without an answer.
    Drop,
}

/// How answers are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuthorizerCache {
    /// What requests have in common that one answer serves: a text with variables.
    pub key: String,
    /// An answer that allows holds so long.
    pub ttl: Duration,
    /// One that denies holds so long.
    pub negative_ttl: Duration,
    /// Most answers, of all threads.
    pub size: u32,
}
