//! What one thread's relays share: buffers and pipes. A relay has one only while bytes are in it, so a thousand idle
//! connections hold none, and bytes that pass cost no allocation.

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Bytes of a buffer: more than one TLS record, so that one read takes what one wakeup brought.
pub(super) const BUFFER: usize = 32 << 10;
/// Buffers that are kept for the next relay that needs one.
const KEPT_BUFFERS: usize = 64;
/// Pipes of a thread: so many directions can be in the middle of a splice at once; others are copied meanwhile.
const MAX_PIPES: usize = 8;
/// Bytes of a pipe: what a user without privileges may ask for (pipe-max-size). With the default of 64 KiB splicing a
/// stream saved nothing.
const PIPE: usize = 1 << 20;

/// See the module.
pub(crate) struct Store {
    buffers: RefCell<Vec<Box<[u8]>>>,
    pipes: RefCell<Vec<Pipe>>,
    /// Pipes that exist.
    pipe_count: Rc<Cell<usize>>,
    /// [`MAX_PIPES`], or how many could be had.
    max_pipes: Cell<usize>,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            buffers: RefCell::default(),
            pipes: RefCell::default(),
            pipe_count: Rc::default(),
            max_pipes: Cell::new(MAX_PIPES),
        }
    }
}

impl Store {
    /// One that never has a pipe.
    #[cfg(test)]
    pub(super) fn without_pipes() -> Store {
        Store { max_pipes: Cell::new(0), ..Store::default() }
    }

    pub(super) fn buffer(&self) -> Box<[u8]> {
        self.buffers.borrow_mut().pop().unwrap_or_else(|| vec![0; BUFFER].into())
    }

    pub(super) fn put_buffer(&self, buffer: Box<[u8]>) {
        let mut kept = self.buffers.borrow_mut();
        if buffer.len() == BUFFER && kept.len() < KEPT_BUFFERS {
            kept.push(buffer);
        }
    }

    /// An empty pipe; None where the thread has as many as it may, or can, have.
    pub(super) fn pipe(&self) -> Option<Pipe> {
        if let Some(pipe) = self.pipes.borrow_mut().pop() {
            return Some(pipe);
        }
        if self.pipe_count.get() >= self.max_pipes.get() {
            return None;
        }
        let made = Pipe::new(&self.pipe_count);
        if made.is_none() {
            self.max_pipes.set(self.pipe_count.get());
        }
        made
    }

    pub(super) fn put_pipe(&self, pipe: Pipe) {
        if pipe.held == 0 {
            self.pipes.borrow_mut().push(pipe);
        }
    }
}

/// A pipe that bytes pass through from socket to socket without being copied.
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
    count: Rc<Cell<usize>>,
}

impl Pipe {
    fn new(count: &Rc<Cell<usize>>) -> Option<Pipe> {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        count.set(count.get() + 1);
        let pipe = Pipe { read, write, held: 0, count: count.clone() };
        // Refused where the user has too many already (pipe-user-pages-soft, 64 MiB).
        fcntl_setpipe_size(&pipe.write, PIPE).ok().map(|_| pipe)
    }

    /// Bytes in it.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Take bytes from a socket; 0: it has ended. The pipe must be empty: with bytes in it, EAGAIN would not tell
    /// whether the socket is empty or the pipe full, and a wakeup would be waited for that never comes.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, from: &TcpStream) -> Poll<io::Result<usize>> {
        debug_assert_eq!(self.held, 0);
        loop {
            ready!(from.poll_read_ready(cx))?;
            match from.try_io(Interest::READABLE, || move_bytes(from, &self.write, PIPE)) {
                Err(e) if is_again(&e) => {}
                Ok(n) => {
                    self.held = n;
                    return Poll::Ready(Ok(n));
                }
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    /// Give bytes to a socket.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<usize>> {
        loop {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || move_bytes(&self.read, to, self.held)) {
                Err(e) if is_again(&e) => {}
                Ok(n) => {
                    self.held -= n.min(self.held);
                    return Poll::Ready(Ok(n));
                }
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
    }
}

fn move_bytes(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    Ok(splice(from, None, to, None, most, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
}

fn is_again(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_bounded_and_only_empty_ones_are_used_again() {
        let store = Store::default();
        let mut all: Vec<_> = std::iter::from_fn(|| store.pipe()).collect();
        assert_eq!(all.len(), MAX_PIPES);
        let mut full = all.pop().unwrap();
        full.held = 1;
        store.put_pipe(full);
        assert_eq!(store.pipe_count.get(), MAX_PIPES - 1);
        store.put_pipe(all.pop().unwrap());
        assert_eq!(store.pipe_count.get(), MAX_PIPES - 1);
        assert!(store.pipe().is_some() && store.pipe().is_some() && store.pipe().is_some());
    }

    #[test]
    fn a_buffer_of_another_size_is_not_kept() {
        let store = Store::default();
        store.put_buffer(vec![0; 3].into());
        assert_eq!(store.buffer().len(), BUFFER);
    }
}
