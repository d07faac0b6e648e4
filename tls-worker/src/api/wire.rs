//! Frames over a Unix stream socket: four bytes of length (little endian), then JSON. Descriptors ride on the
//! frame's first byte (SCM_RIGHTS). A frame is at most [`MAX_FRAME`] long, with at most [`MAX_FDS`] descriptors.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zeroize::Zeroizing;

/// Longest frame, bytes: a snapshot of some ten thousand certificates.
pub const MAX_FRAME: usize = 64 << 20;
/// Most descriptors on one frame (the kernel's SCM_MAX_FD is 253).
pub const MAX_FDS: usize = 128;

/// Why a frame could not be sent or read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The socket failed.
    #[error("control socket: {0}")]
    Io(#[from] io::Error),
    /// The other side closed between frames.
    #[error("control socket: closed by the other side")]
    Closed,
    /// A frame is longer than [`MAX_FRAME`].
    #[error("control socket: a frame of {0} bytes is over the bound of {MAX_FRAME}")]
    TooLong(usize),
    /// More than [`MAX_FDS`] descriptors.
    #[error("control socket: {0} descriptors on one frame are over the bound of {MAX_FDS}")]
    TooManyFds(usize),
    /// The text is no such message.
    #[error("control socket: not a message of this version: {0}")]
    Json(#[from] serde_json::Error),
}

/// The sending half.
#[derive(Debug)]
pub struct Sender(OwnedWriteHalf);

/// The receiving half.
#[derive(Debug)]
pub struct Receiver {
    half: OwnedReadHalf,
    sender: Option<u32>,
}

/// Both halves of a connected socket.
pub fn split(stream: UnixStream) -> (Sender, Receiver) {
    let (read, write) = stream.into_split();
    (Sender(write), Receiver { half: read, sender: None })
}

impl Sender {
    /// Send a message with descriptors. A call that is dropped half-way leaves the stream unusable.
    pub async fn send<T: Serialize>(&mut self, message: &T, fds: &[BorrowedFd<'_>]) -> Result<(), WireError> {
        let mut frame = Wiped::default();
        frame.extend(&[0; 4]);
        serde_json::to_writer(&mut frame, message)?;
        let mut frame = frame.0;
        let length = frame.len() - 4;
        if length > MAX_FRAME {
            return Err(WireError::TooLong(length));
        }
        if fds.len() > MAX_FDS {
            return Err(WireError::TooManyFds(fds.len()));
        }
        frame[..4].copy_from_slice(&(length as u32).to_le_bytes());
        let mut sent = 0;
        if !fds.is_empty() {
            let stream: &UnixStream = self.0.as_ref();
            sent = stream
                .async_io(Interest::WRITABLE, || {
                    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
                    let mut ancillary = SendAncillaryBuffer::new(&mut space);
                    ancillary.push(SendAncillaryMessage::ScmRights(fds));
                    Ok(rustix::net::sendmsg(
                        stream.as_fd(),
                        &[IoSlice::new(&frame)],
                        &mut ancillary,
                        SendFlags::NOSIGNAL,
                    )?)
                })
                .await?;
        }
        Ok(self.0.write_all(&frame[sent..]).await?)
    }
}

impl Receiver {
    /// Have the kernel say which process sends, from the next message that is sent on.
    pub fn ask_for_sender(&self, ask: bool) -> io::Result<()> {
        let stream: &UnixStream = self.half.as_ref();
        Ok(rustix::net::sockopt::set_socket_passcred(stream.as_fd(), ask)?)
    }

    /// The process that sent the last message, where it was asked for.
    pub fn sender(&self) -> Option<u32> {
        self.sender
    }

    /// The next message with its descriptors. Not cancel safe.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<(T, Vec<OwnedFd>), WireError> {
        let mut fds = Vec::new();
        let mut head = [0u8; 4];
        let stream: &UnixStream = self.half.as_ref();
        let mut sender = None;
        let got = stream
            .async_io(Interest::READABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS), ScmCredentials(1))];
                let mut ancillary = RecvAncillaryBuffer::new(&mut space);
                let message = rustix::net::recvmsg(
                    stream.as_fd(),
                    &mut [IoSliceMut::new(&mut head)],
                    &mut ancillary,
                    RecvFlags::CMSG_CLOEXEC,
                )?;
                for m in ancillary.drain() {
                    match m {
                        RecvAncillaryMessage::ScmRights(rights) => fds.extend(rights),
                        RecvAncillaryMessage::ScmCredentials(of) => sender = of.pid.as_raw_pid().try_into().ok(),
                        _ => {}
                    }
                }
                Ok(message.bytes)
            })
            .await?;
        if got == 0 {
            return Err(WireError::Closed);
        }
        self.sender = sender;
        self.half.read_exact(&mut head[got..]).await?;
        let length = u32::from_le_bytes(head) as usize;
        if length > MAX_FRAME {
            return Err(WireError::TooLong(length));
        }
        // Not all at once: a length alone must not take memory that no bytes come for.
        let mut body = Wiped::default();
        let mut part = Zeroizing::new([0; 16 << 10]);
        while body.0.len() < length {
            let wanted = part.len().min(length - body.0.len());
            let n = self.half.read(&mut part[..wanted]).await?;
            if n == 0 {
                return Err(WireError::Closed);
            }
            body.extend(&part[..n]);
        }
        Ok((serde_json::from_slice(&body.0)?, fds))
    }
}

/// A buffer that leaves nothing behind, also where it grew: snapshots hold private keys.
#[derive(Default)]
struct Wiped(Zeroizing<Vec<u8>>);

impl Wiped {
    fn extend(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.next_power_of_two()));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
    }
}

impl io::Write for Wiped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Command;

    #[tokio::test]
    async fn a_frame_arrives_with_its_descriptors() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut tx, _) = split(a);
        let (_, mut rx) = split(b);
        let file = std::fs::File::open("/dev/null").unwrap();
        let sent = tokio::spawn(async move {
            tx.send(&Command::Unlisten((0..100_000).collect()), &[file.as_fd(), file.as_fd()]).await
        });
        let (message, fds): (Command, _) = rx.receive().await.unwrap();
        assert!(matches!(message, Command::Unlisten(ids) if ids.len() == 100_000));
        assert_eq!(fds.len(), 2);
        sent.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_kernel_says_who_sends() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut tx, _keep) = split(a);
        let (_, mut rx) = split(b);
        rx.ask_for_sender(true).unwrap();
        tx.send(&Command::Report, &[]).await.unwrap();
        rx.receive::<Command>().await.unwrap();
        assert_eq!(rx.sender(), Some(std::process::id()));
        rx.ask_for_sender(false).unwrap();
        tx.send(&Command::Report, &[]).await.unwrap();
        rx.receive::<Command>().await.unwrap();
        assert_eq!(rx.sender(), None);
    }

    #[tokio::test]
    async fn an_oversized_length_is_refused_and_not_allocated() {
        let (mut a, b) = UnixStream::pair().unwrap();
        a.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
        let (_, mut rx) = split(b);
        assert!(matches!(rx.receive::<Command>().await, Err(WireError::TooLong(_))));
    }
}
