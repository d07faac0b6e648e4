//! The journal over a medium: read at start, written before a change is carried out, rewritten when it grew.

use super::entry::{Damage, Entry, FORMAT, Record, format_of};
use super::history::History;
use super::medium::Medium;
use crate::reconcile::{Overlay, ServiceIds};
use std::io;
use std::sync::Arc;

/// A journal that is shorter is not worth rewriting, bytes.
const SMALL: u64 = 1 << 20;

/// What the bytes of a journal say. Pure.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// Changes.
    pub history: History,
    /// Ids of services.
    pub ids: ServiceIds,
    /// No generation up to this one is free.
    pub generation: u64,
    /// Bytes up to the end of the last good line.
    pub good: usize,
    /// Checksum of that line.
    pub(super) chain: u32,
    /// The first bad line, from 1, and what is wrong with it.
    pub damage: Option<(usize, Damage)>,
    /// Another version's, which wrote this; nothing else is known of it then.
    pub other: Option<(u32, String)>,
}

impl Found {
    /// Whether something that was answered may be lost. A line that is half written was not: it comes last, and whoever
    /// asked has no answer.
    pub fn lost(&self) -> bool {
        // The first two lines come with a whole file, and never by themselves.
        self.damage.as_ref().is_some_and(|(line, damage)| *line <= 2 || *damage != Damage::Half)
    }
}

/// Read a journal up to the first line that is not good.
pub fn read(bytes: &[u8]) -> Found {
    let mut found = Found::default();
    if bytes.is_empty() {
        return found;
    }
    if let Some(end) = bytes.iter().position(|byte| *byte == b'\n')
        && let Ok((format, release)) = format_of(&bytes[..end])
        && format != FORMAT
    {
        found.other = Some((format, release));
        return found;
    }
    let mut history = None;
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if let Err(damage) = take(&mut found, &mut history, index, line) {
            found.damage = Some((index + 1, damage));
            break;
        }
    }
    found.history = history.unwrap_or_default();
    found
}

fn take(found: &mut Found, history: &mut Option<History>, index: usize, line: &[u8]) -> Result<(), Damage> {
    let text = line.strip_suffix(b"\n").ok_or(Damage::Half)?;
    let (entry, sum) = Entry::parse(text, found.chain)?;
    match (index, entry, &mut *history) {
        (0, Entry::Head { .. }, None) => {}
        (1.., Entry::Base { number, overlay }, None) => {
            let mut base = Overlay::default();
            base.apply(&overlay);
            *history = Some(History::after(number, base));
        }
        (1.., Entry::Change(record), Some(history)) if record.number == history.last() + 1 => {
            found.generation = found.generation.max(record.generation);
            history.push(Arc::new(record));
        }
        (1.., Entry::Numbers { ids, generation }, Some(_)) => {
            found.ids = ids;
            found.generation = generation;
        }
        _ => return Err(Damage::Misplaced),
    }
    found.good += line.len();
    found.chain = sum;
    Ok(())
}

/// A journal that is written to.
#[derive(Debug)]
pub struct Journal<M> {
    medium: M,
    history: History,
    ids: ServiceIds,
    generation: u64,
    /// Changes that are kept.
    keep: usize,
    length: u64,
    chain: u32,
    /// Before the last change, while that can be taken back.
    before: Option<(u64, u32)>,
    /// Length after it was last written as a whole.
    whole: u64,
    /// What lies on the medium is not what is known here: it is written as a whole before anything is added.
    stale: bool,
}

impl<M: Medium> Journal<M> {
    /// Take over what a medium holds, of this version. What is not good is set aside and taken out, if that can be done now.
    pub fn open(mut medium: M, bytes: &[u8], found: &Found, keep: usize) -> (Self, io::Result<()>) {
        let mut aside = Ok(());
        if found.lost() {
            aside = medium.set_aside(bytes);
        }
        let length = found.good as u64;
        let mut journal = Self {
            medium,
            history: found.history.clone(),
            ids: found.ids.clone(),
            generation: found.generation,
            keep,
            length,
            chain: found.chain,
            before: None,
            whole: length,
            stale: found.damage.is_some() || bytes.is_empty(),
        };
        // Nothing of what is set aside goes before it is.
        let ready = aside.and_then(|()| journal.ready());
        (journal, ready)
    }

    /// Bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Have the medium hold what is known, if it does not.
    pub fn ready(&mut self) -> io::Result<()> {
        if self.stale { self.rewrite() } else { Ok(()) }
    }

    /// Write a change down. On an error nothing was.
    pub fn record(&mut self, record: Arc<Record>) -> io::Result<()> {
        self.tidy()?;
        self.add(&Entry::Change(Record::clone(&record)))?;
        self.history.push(record);
        Ok(())
    }

    /// The change of this number, the last one, was not made. Nothing is done where it is not the last.
    pub fn take_back(&mut self, number: u64) -> io::Result<()> {
        if self.history.records().next_back().is_none_or(|last| last.number != number) {
            return Ok(());
        }
        self.history.pop();
        match self.before.take() {
            Some((length, chain)) if !self.stale => self.cut(length, chain),
            _ => {
                self.stale = true;
                self.ready()
            }
        }
    }

    /// Note numbers that stay given.
    pub fn numbers(&mut self, ids: ServiceIds, generation: u64) -> io::Result<()> {
        (self.ids, self.generation) = (ids, generation);
        if self.stale {
            return self.rewrite();
        }
        self.add(&Entry::Numbers { ids: self.ids.clone(), generation: self.generation }).inspect_err(|_| {
            self.stale = true;
        })?;
        self.before = None;
        Ok(())
    }

    fn add(&mut self, entry: &Entry) -> io::Result<()> {
        let (length, chain) = (self.length, self.chain);
        let (line, sum) = entry.line(chain);
        if let Err(error) = self.medium.append(&line) {
            // A part of it may be there. Where that cannot be cut off now, it is before anything else is written.
            let _ = self.cut(length, chain);
            self.stale = true;
            return Err(error);
        }
        self.before = Some((length, chain));
        (self.length, self.chain) = (length + line.len() as u64, sum);
        Ok(())
    }

    fn cut(&mut self, length: u64, chain: u32) -> io::Result<()> {
        self.stale = true;
        self.medium.truncate(length)?;
        (self.length, self.chain, self.stale) = (length, chain, false);
        Ok(())
    }

    /// Rewrite what grew.
    fn tidy(&mut self) -> io::Result<()> {
        let many = self.history.records().len() > self.keep.saturating_mul(2).max(16);
        let long = self.length > SMALL.max(self.whole.saturating_mul(2));
        if self.stale || many || long { self.rewrite() } else { Ok(()) }
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let mut history = self.history.clone();
        history.trim(self.keep);
        let mut bytes = Vec::new();
        let mut chain = 0;
        let mut add = |entry: Entry| {
            let (line, sum) = entry.line(chain);
            bytes.extend_from_slice(&line);
            chain = sum;
        };
        add(Entry::Head { format: FORMAT, release: env!("CARGO_PKG_VERSION").into() });
        let (number, base) = history.base();
        add(Entry::Base { number, overlay: Overlay::default().delta(base) });
        add(Entry::Numbers { ids: self.ids.clone(), generation: self.generation });
        for record in history.records() {
            add(Entry::Change(Record::clone(record)));
        }
        // On an error it may be the old one or the new one that is there.
        (self.before, self.stale) = (None, true);
        self.medium.replace(&bytes)?;
        self.history = history;
        (self.length, self.chain, self.stale) = (bytes.len() as u64, chain, false);
        self.whole = self.length;
        Ok(())
    }
}
