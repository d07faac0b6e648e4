//! Refusals as answers: a code, what is wrong, and what to do.

use super::api::Failure;
use super::router::{Answer, json};
use crate::config::LoadError;
use crate::reconcile::{ChangeError, Refusal};
use hyper::StatusCode;

/// A refusal with its code.
pub(super) struct Refused(StatusCode, Failure);

impl Refused {
    pub(super) fn new(code: StatusCode, error: impl Into<String>, hint: Option<&str>) -> Self {
        Self(code, Failure { error: error.into(), hint: hint.map(Into::into), ..Failure::default() })
    }

    pub(super) fn response(self) -> Answer {
        json(self.0, &self.1)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let mut refused = Self::new(code(&refusal), refusal.to_string(), hint(&refusal));
        match &refusal {
            Refusal::Config(LoadError::Invalid(problems)) => refused.1.problems = problems.views(),
            Refusal::Part { index, .. } => refused.1.change = Some(*index),
            _ => {}
        }
        refused
    }
}

fn hint(refusal: &Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::Part { why, .. } => hint(why),
        Refusal::Change(ChangeError::NoRule(_)) => Some("see what there is: bailey deny list"),
        Refusal::Change(ChangeError::NoService(_)) => Some("see what there is: bailey service list"),
        Refusal::Change(ChangeError::Forgotten(_)) => Some("see what there is: bailey history"),
        Refusal::Change(ChangeError::FileRule(_) | ChangeError::TooManyRules) => None,
        Refusal::Change(_) => Some("see what there is: bailey pool list, bailey pool show"),
        Refusal::Config(_) => Some("nothing changed; mend the file, and try it first: bailey check --config FILE"),
        Refusal::Restart(_) | Refusal::Worker(_) | Refusal::Datapath(_) => Some("nothing changed"),
        Refusal::Plan(_) => Some("nothing changed"),
        Refusal::Overtaken { .. } => Some("see who changed what: bailey history; then decide again"),
        Refusal::NotKept(_) => Some("nothing changed; make room there or let it be written, and try again"),
        Refusal::TooMany(_) => Some("write several files"),
        Refusal::Unresolved { .. } => Some("nothing changed; see what DNS says, and [dns]; `backends = []` has none"),
        Refusal::Unfiltered | Refusal::NoRandom(_) | Refusal::Upgrading | Refusal::Closing => None,
    }
}

fn code(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Part { why, .. } => code(why),
        Refusal::Change(_) | Refusal::Unfiltered => StatusCode::CONFLICT,
        Refusal::Config(_) | Refusal::Restart(_) | Refusal::Plan(_) | Refusal::Unresolved { .. } => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Refusal::Overtaken { .. } => StatusCode::PRECONDITION_FAILED,
        Refusal::TooMany(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Worker(_) | Refusal::Datapath(_) => StatusCode::BAD_GATEWAY,
        Refusal::NotKept(_) => StatusCode::INSUFFICIENT_STORAGE,
        Refusal::NoRandom(_) | Refusal::Upgrading | Refusal::Closing => StatusCode::SERVICE_UNAVAILABLE,
    }
}
