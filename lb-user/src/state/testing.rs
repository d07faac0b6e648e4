//! A medium that forgets, fills up and dies, between any two steps and in the midst of one.

use super::medium::Medium;
use std::io;
use std::sync::{Arc, Mutex};

/// What goes wrong, from which step on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fault {
    /// The first step that goes wrong, from 0.
    pub(crate) at: usize,
    /// How many do; then all is well again.
    pub(crate) count: usize,
    /// How much of a step is done all the same.
    pub(crate) part: usize,
    /// The machine dies at the first: nothing is done from there on.
    pub(crate) dies: bool,
}

#[derive(Debug, Default)]
struct Inner {
    bytes: Vec<u8>,
    aside: Vec<u8>,
    steps: usize,
    fault: Option<Fault>,
    dead: bool,
}

/// Survives its user.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Inner>>);

impl Memory {
    /// Of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let memory = Self::default();
        memory.0.lock().unwrap().bytes = bytes.to_vec();
        memory
    }

    /// Count steps anew, and have this go wrong.
    pub(crate) fn fail(&self, fault: Option<Fault>) {
        let mut inner = self.0.lock().unwrap();
        (inner.steps, inner.fault, inner.dead) = (0, fault, false);
    }

    pub(crate) fn dead(&self) -> bool {
        self.0.lock().unwrap().dead
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
    }

    pub(crate) fn aside(&self) -> Vec<u8> {
        self.0.lock().unwrap().aside.clone()
    }

    /// Do a step, or a part of it.
    fn step(&self, whole: impl FnOnce(&mut Inner), part: impl FnOnce(&mut Inner, usize)) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        let step = inner.steps;
        inner.steps += 1;
        let no = || Err(io::Error::from(io::ErrorKind::StorageFull));
        if inner.dead {
            return no();
        }
        match inner.fault {
            Some(fault) if (fault.at..fault.at + fault.count).contains(&step) => {
                inner.dead = fault.dies;
                part(&mut inner, fault.part);
                no()
            }
            _ => {
                whole(&mut inner);
                Ok(())
            }
        }
    }
}

impl Medium for Memory {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.bytes())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.step(
            |inner| inner.bytes.extend_from_slice(bytes),
            |inner, part| inner.bytes.extend_from_slice(&bytes[..part % (bytes.len() + 1)]),
        )
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let cut = |inner: &mut Inner| inner.bytes.truncate(length as usize);
        self.step(cut, |inner, part| {
            if part % 2 == 1 {
                cut(inner)
            }
        })
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let put = |inner: &mut Inner| inner.bytes = bytes.to_vec();
        self.step(put, |inner, part| {
            if part % 2 == 1 {
                put(inner)
            }
        })
    }

    fn set_aside(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.step(|inner| inner.aside = bytes.to_vec(), |_, _| {})
    }
}
