//! A strict reader of raw HTTP/1.1 in front of hyper, which repairs some of what is refused here (two framings in one
//! header, lines that end in LF alone, folded headers) before anybody behind it could see it.
//!
//! [`Guard`] is the state machine: it is shown bytes in any portions and says how many of them may pass. A header passes
//! when it is whole and good, a body as it comes. It looks at no byte of a body whose length is known, and at nothing any
//! more after an upgrade. [`stream::Guarded`] is the I/O around it; [`frames`] counts the frames of HTTP/2.

mod chars;
mod chunked;
pub(crate) mod frames;
mod head;
pub(crate) mod stream;

use crate::stats::Rejection;
use chunked::Chunked;
use head::Head;

/// Bounds of a request's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// All of it, bytes, the request line included.
    pub(crate) header: usize,
    /// Fields.
    pub(crate) fields: usize,
    /// Request target, bytes.
    pub(crate) target: usize,
}

/// How many of the bytes that were shown may pass. What is left has to be shown again, with more behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many; the rest is of a header that is not whole.
    Pass(usize),
    /// So many; the rest waits until it is known whether the last request got its upgrade: [`Guard::answered`].
    Waits(usize),
    /// So many; then comes what is no request. Nothing behind it is read.
    Refused(usize, Rejection),
    /// So many; then the body of the last request breaks.
    Broken(usize, Rejection),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Guard {
    bounds: Bounds,
    state: State,
    /// The request whose body is read asks for an upgrade.
    asks_upgrade: bool,
    heads: u64,
}

#[derive(Debug)]
enum State {
    Head(Head),
    /// Bytes that are still to come of a body.
    Fixed(u64),
    Chunked(Chunked),
    /// For the answer to a request that asks for an upgrade.
    Waiting,
    /// Another protocol.
    Open,
    /// It was refused, or broke.
    Shut(Step),
}

/// What follows a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// So many bytes.
    Length(u64),
    Chunked,
}

impl Guard {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Guard { bounds, state: State::Head(Head::default()), asks_upgrade: false, heads: 0 }
    }

    /// Headers that passed.
    pub(crate) fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether it is between requests or in a header.
    pub(crate) fn is_in_head(&self) -> bool {
        matches!(self.state, State::Head(_))
    }

    /// Whether it waits for [`Guard::answered`].
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting)
    }

    /// The request that asked for an upgrade has got its answer.
    pub(crate) fn answered(&mut self, upgraded: bool) {
        if self.is_waiting() {
            self.state = if upgraded { State::Open } else { State::Head(Head::default()) };
        }
    }

    /// Look at these bytes: those that did not pass the last time, and what came since.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Step {
        let mut done = 0;
        loop {
            let rest = &bytes[done..];
            match &mut self.state {
                State::Head(head) => match head.feed(rest, &self.bounds) {
                    Ok(None) => return Step::Pass(done),
                    Ok(Some(whole)) => {
                        done += whole.length;
                        self.heads += 1;
                        self.asks_upgrade = whole.asks_upgrade;
                        self.state = match whole.framing {
                            Framing::Length(0) => self.after_body(),
                            Framing::Length(n) => State::Fixed(n),
                            Framing::Chunked => State::Chunked(Chunked::new(self.bounds)),
                        };
                    }
                    Err(reason) => return self.shut(Step::Refused(done, reason)),
                },
                State::Fixed(left) => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    done += n;
                    *left -= n as u64;
                    if *left > 0 {
                        return Step::Pass(done);
                    }
                    self.state = self.after_body();
                }
                State::Chunked(body) => match body.feed(rest) {
                    Ok((n, false)) => return Step::Pass(done + n),
                    Ok((n, true)) => {
                        done += n;
                        self.state = self.after_body();
                    }
                    Err((n, reason)) => return self.shut(Step::Broken(done + n, reason)),
                },
                State::Waiting => return Step::Waits(done),
                State::Open => return Step::Pass(bytes.len()),
                State::Shut(step) => return *step,
            }
        }
    }

    fn after_body(&self) -> State {
        if self.asks_upgrade { State::Waiting } else { State::Head(Head::default()) }
    }

    fn shut(&mut self, step: Step) -> Step {
        self.state = State::Shut(match step {
            Step::Refused(_, reason) => Step::Refused(0, reason),
            Step::Broken(_, reason) => Step::Broken(0, reason),
            other => other,
        });
        step
    }
}

/// What becomes of bytes that a client sends on one connection: for those who try to break it.
#[must_use]
pub fn guard_requests(bytes: &[u8], portion: usize) -> (Vec<u8>, u64, bool) {
    let mut guard = Guard::new(Bounds { header: 16 << 10, fields: 64, target: 4 << 10 });
    let (mut passed, mut held) = (Vec::new(), Vec::new());
    for part in bytes.chunks(portion.max(1)) {
        held.extend_from_slice(part);
        loop {
            let step = guard.feed(&held);
            let (Step::Pass(n) | Step::Waits(n) | Step::Refused(n, _) | Step::Broken(n, _)) = step;
            passed.extend(held.drain(..n));
            match step {
                Step::Pass(_) => break,
                Step::Waits(_) => guard.answered(false),
                Step::Refused(..) | Step::Broken(..) => return (passed, guard.heads, true),
            }
        }
    }
    (passed, guard.heads, false)
}

#[cfg(test)]
mod tests;
