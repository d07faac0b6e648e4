//! A question asked of a responder: nonce, request, exchange, check. Behind [`Ask`], so that tests can answer.

use super::fetch::{self, FetchError};
use super::message::{Checked, MessageError, NONCE, Question, check_response};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tls_worker::api::OcspStatus;

/// From the name's resolution to the last byte of the answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why no state was had.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Neither the config nor the certificate names a responder.
    #[error("neither the config nor the certificate names a responder that is asked over http")]
    NoResponder,
    /// The responder gave no answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Its answer is not believed, or it could not be asked.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// Asks responders.
pub trait Ask: Clone + Send + Sync + 'static {
    /// What the responder at `url` says, and the response, DER, that it said it in.
    fn ask(&self, url: &str, question: &Question) -> impl Future<Output = Result<(Checked, Vec<u8>), AskError>> + Send;
}

/// Those of the network.
#[derive(Debug, Clone, Copy, Default)]
pub struct Responders;

impl Ask for Responders {
    async fn ask(&self, url: &str, question: &Question) -> Result<(Checked, Vec<u8>), AskError> {
        let mut nonce = [0; NONCE];
        SystemRandom::new().fill(&mut nonce).map_err(|_| AskError::Random)?;
        let response = fetch::post(url, question.request(&nonce)?, DEADLINE).await?;
        let checked = check_response(&response, question, Some(&nonce), SystemTime::now())?;
        Ok((checked, response))
    }
}

/// What an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// To be stapled.
    Staple,
    /// A client's certificate.
    Client,
}

/// Answers had. The agents write, the metrics read.
#[derive(Debug, Default)]
pub struct Counts {
    fetches: [[AtomicU64; 4]; 2],
    dropped: AtomicU64,
}

impl Counts {
    const USES: [(Use, &'static str); 2] = [(Use::Staple, "staple"), (Use::Client, "client")];
    const RESULTS: [(OcspStatus, &'static str); 4] = [
        (OcspStatus::Good, "good"),
        (OcspStatus::Revoked, "revoked"),
        (OcspStatus::Unknown, "unknown"),
        (OcspStatus::Unavailable, "unavailable"),
    ];

    /// Count an answer of a responder, or that there was none.
    pub fn fetched(&self, used: Use, result: OcspStatus) {
        let used = Self::USES.iter().position(|(one, _)| *one == used);
        let result = Self::RESULTS.iter().position(|(one, _)| *one == result);
        if let (Some(used), Some(result)) = (used, result) {
            self.fetches[used][result].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Count a question or an answer that found its queue full.
    pub fn dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Use, result and number, of every kind.
    pub fn read(&self) -> Vec<(&'static str, &'static str, u64)> {
        let of = |(row, (_, used)): (&[AtomicU64; 4], &(Use, &'static str))| {
            let used = *used;
            let results = Self::RESULTS.iter().zip(row);
            results.map(|((_, word), n)| (used, *word, n.load(Ordering::Relaxed))).collect::<Vec<_>>()
        };
        self.fetches.iter().zip(&Self::USES).flat_map(of).collect()
    }

    /// Questions and answers that found their queue full.
    pub fn read_dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
