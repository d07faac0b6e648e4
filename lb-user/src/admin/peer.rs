//! Who is at the other end of a socket: what the kernel says, which nobody can make up.

use crate::state::Who;
use nix::unistd::{Uid, User};
use tokio::net::UnixStream;

/// A process that is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    /// Its user; none: the kernel does not say.
    pub(super) uid: Option<u32>,
    pid: Option<i32>,
}

impl Peer {
    pub(super) fn of(stream: &UnixStream) -> Self {
        match stream.peer_cred() {
            Ok(cred) => Self { uid: Some(cred.uid()), pid: cred.pid() },
            Err(_) => Self { uid: None, pid: None },
        }
    }

    /// For the history. Names are looked up, which may take a directory service its time: beside the others' requests.
    pub(super) async fn who(self) -> Who {
        let unknown = Who { name: "unknown".into(), uid: self.uid, pid: self.pid, login: None };
        let Some(uid) = self.uid else { return unknown };
        let looked = tokio::task::spawn_blocking(move || {
            let name = name(uid);
            let login = self.pid.and_then(login).filter(|login| *login != uid).map(self::name);
            Who { name, uid: self.uid, pid: self.pid, login }
        });
        looked.await.unwrap_or(unknown)
    }
}

fn name(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| format!("uid {uid}"), |user| user.name)
}

/// The user that a process's session was opened by: whoever is behind `sudo`.
fn login(pid: i32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?;
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}
