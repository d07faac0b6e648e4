//! The one rule by which what operators, checks and answers say of a backend becomes what happens. Pure.
//!
//! 1. What the operator says goes first: a backend that is disabled or drains takes nothing new, whatever else is said.
//! 2. The checks decide for every thread: a backend that is down takes nothing.
//! 3. The answers (`outliers`) decide for the thread that saw them: it leaves the backend out, the others do not.
//! 4. A thread in panic (`panic_threshold`) passes over 2 and 3.
//!
//! So neither checks nor answers bring a backend back that the other leaves out. The worker carries this out
//! (`upstream/choose.rs`); here it is put into words.

use crate::reconcile::Mark;

/// What is known of a backend of a pool.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known {
    /// What the operator says.
    pub mark: Mark,
    /// What the checks say; none: nothing yet, or there are none.
    pub checked: Option<bool>,
    /// Worker threads that leave it out for its answers.
    pub ejected: u64,
    /// Worker threads of the pool in panic.
    pub panic: u64,
    /// Worker threads.
    pub threads: u64,
}

/// Whether a backend takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// On every thread.
    In,
    /// On some threads, as the others leave it out for its answers.
    Partly {
        /// So many take it.
        of: u64,
    },
    /// On no thread: so its checks say.
    Checks,
    /// On no thread: so its answers say.
    Answers,
    /// On so many threads, although checks or answers speak against it: too few others are left.
    Panic {
        /// So many.
        of: u64,
    },
    /// It drains.
    Draining,
    /// It is disabled.
    Disabled,
}

/// Put together what is known.
pub fn standing(known: Known) -> Standing {
    let (ejected, panic) = (known.ejected.min(known.threads), known.panic.min(known.threads));
    match known.mark {
        Mark::Disabled => return Standing::Disabled,
        Mark::Draining => return Standing::Draining,
        Mark::Enabled => {}
    }
    match (known.checked, ejected) {
        (Some(false), _) if panic > 0 => Standing::Panic { of: panic },
        (Some(false), _) => Standing::Checks,
        (_, 0) => Standing::In,
        (_, ejected) if panic > 0 => Standing::Panic { of: (known.threads - ejected).max(panic) },
        (_, ejected) if ejected == known.threads => Standing::Answers,
        (_, ejected) => Standing::Partly { of: known.threads - ejected },
    }
}

impl Standing {
    /// For people.
    pub fn words(self, threads: u64) -> String {
        match self {
            Standing::In => "yes".into(),
            Standing::Partly { of } => format!("on {of} of {threads} threads (answers)"),
            Standing::Checks => "no (checks)".into(),
            Standing::Answers => "no (answers)".into(),
            Standing::Panic { of } => format!("on {of} of {threads} threads (panic)"),
            Standing::Draining => "no (draining)".into(),
            Standing::Disabled => "no (disabled)".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_go_first_then_checks_then_answers_and_panic_passes_over_both() {
        let of = |mark, checked, ejected, panic| standing(Known { mark, checked, ejected, panic, threads: 2 });
        use Mark::{Disabled, Draining, Enabled};
        for (mark, expected) in [(Disabled, Standing::Disabled), (Draining, Standing::Draining)] {
            for (checked, ejected, panic) in [(None, 0, 0), (Some(true), 0, 2), (Some(false), 2, 2)] {
                assert_eq!(of(mark, checked, ejected, panic), expected);
            }
        }
        for (checked, ejected, panic, expected) in [
            (None, 0, 0, Standing::In),
            (Some(true), 0, 2, Standing::In),
            (Some(false), 0, 0, Standing::Checks),
            (Some(false), 2, 0, Standing::Checks),
            (Some(false), 0, 1, Standing::Panic { of: 1 }),
            (Some(true), 1, 0, Standing::Partly { of: 1 }),
            (Some(true), 2, 0, Standing::Answers),
            // A report may lag behind the number of threads.
            (None, 9, 0, Standing::Answers),
            (Some(true), 2, 1, Standing::Panic { of: 1 }),
        ] {
            assert_eq!(of(Enabled, checked, ejected, panic), expected, "{checked:?} {ejected} {panic}");
        }
    }
}
