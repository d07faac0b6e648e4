//! What passed of a request's body, remembered up to a bound, so that it can be sent again. Parts are shared with the
//! original: nothing is copied.

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use std::cell::{Cell, RefCell};

/// See the module.
#[derive(Debug)]
pub(super) struct Tape {
    parts: RefCell<Vec<Part>>,
    /// Bytes that may still come.
    room: Cell<usize>,
    state: Cell<State>,
}

#[derive(Debug, Clone)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Whole,
    /// There was more than may be remembered.
    Over,
}

impl Tape {
    pub(super) fn new(bound: usize) -> Self {
        Tape { parts: RefCell::default(), room: Cell::new(bound), state: Cell::new(State::Open) }
    }

    /// A part passed, or the end; `ended`: it was the last.
    pub(super) fn note(&self, frame: Option<&Frame<Bytes>>, ended: bool) {
        if self.state.get() != State::Open {
            return;
        }
        let data = frame.and_then(Frame::data_ref);
        let Some(room) = self.room.get().checked_sub(data.map_or(0, Bytes::len)) else {
            self.state.set(State::Over);
            self.parts.borrow_mut().clear();
            return;
        };
        self.room.set(room);
        let mut parts = self.parts.borrow_mut();
        parts.extend(data.map(|data| Part::Data(data.clone())));
        parts.extend(frame.and_then(Frame::trailers_ref).map(|trailers| Part::Trailers(trailers.clone())));
        if ended || frame.is_none() {
            self.state.set(State::Whole);
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.state.get() == State::Whole
    }

    pub(super) fn len(&self) -> usize {
        self.parts.borrow().len()
    }

    /// A part, by its place.
    pub(super) fn part(&self, place: usize) -> Option<Frame<Bytes>> {
        self.parts.borrow().get(place).cloned().map(|part| match part {
            Part::Data(data) => Frame::data(data),
            Part::Trailers(trailers) => Frame::trailers(trailers),
        })
    }

    /// Of all of it; with trailers the length is not told ahead.
    pub(super) fn size_hint(&self) -> SizeHint {
        let parts = self.parts.borrow();
        let length = |part: &Part| if let Part::Data(data) = part { Some(data.len() as u64) } else { None };
        match parts.iter().map(length).sum::<Option<u64>>() {
            Some(all) => SizeHint::with_exact(all),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_whole_and_what_does_not_is_forgotten() {
        let data = |text: &'static str| Frame::data(Bytes::from_static(text.as_bytes()));
        let tape = Tape::new(6);
        tape.note(Some(&data("abc")), false);
        tape.note(Some(&data("def")), false);
        assert!(!tape.is_whole());
        tape.note(None, true);
        assert!(tape.is_whole());
        assert_eq!((tape.len(), tape.size_hint().exact()), (2, Some(6)));
        assert_eq!(tape.part(1).unwrap().into_data().unwrap(), "def");
        assert!(tape.part(2).is_none());
        let tape = Tape::new(6);
        tape.note(Some(&data("abcdefg")), true);
        assert!(!tape.is_whole() && tape.len() == 0);
        let tape = Tape::new(6);
        tape.note(Some(&data("abc")), false);
        tape.note(Some(&Frame::trailers(HeaderMap::new())), true);
        assert_eq!((tape.is_whole(), tape.size_hint().exact()), (true, None));
    }
}
