//! `openssl ocsp` as an authority's responder on loopback.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::backend::hex;
use crate::pki::{Authority, Identity, Order};
use crate::process::Process;
use crate::wait::{PATIENCE, wait_ok};

/// A responder. It ends when dropped or stopped.
pub struct Responder {
    process: Option<Process>,
    /// What certificates name, or a config.
    pub url: String,
    port: u16,
    folder: PathBuf,
    lines: Vec<String>,
    starts: usize,
}

/// What it says of a certificate. One that it was told nothing of is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not revoked.
    Good,
    /// Revoked.
    Revoked,
}

impl Responder {
    /// Answer for certificates of `authority` on this port, by a certificate that the authority made for that.
    pub fn start(folder: &Path, authority: &Authority, port: u16) -> Result<Self> {
        let usage = rcgen::ExtendedKeyUsagePurpose::OcspSigning;
        authority.order(folder, &format!("responder-{port}"), &Order { usage, ..Order::default() })?;
        authority.save(&folder.join(format!("responder-{port}.ca")))?;
        let url = format!("http://127.0.0.1:{port}/");
        let mut responder = Self { process: None, url, port, folder: folder.into(), lines: Vec::new(), starts: 0 };
        responder.restart()?;
        Ok(responder)
    }

    /// Tell it of a certificate.
    pub fn set(&mut self, identity: &Identity, state: State) -> Result<()> {
        let serial = hex(&identity.serial).to_uppercase();
        let (letter, revoked) = match state {
            State::Good => ("V", ""),
            State::Revoked => ("R", "250101000000Z"),
        };
        self.lines.retain(|line| !line.contains(&serial));
        self.lines.push(format!("{letter}\t490101000000Z\t{revoked}\t{serial}\tunknown\t/CN={serial}"));
        // A change of its index openssl would see only after one more answer by the old one.
        self.restart()
    }

    /// End it: whoever asks now is refused.
    pub fn stop(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.stop().map(drop))
    }

    /// Begin again, with what it was told.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        let file = |end: &str| self.folder.join(format!("responder-{}.{end}", self.port));
        let lines: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(file("index"), lines)?;
        let mut command = Command::new("openssl");
        command.args(["ocsp", "-port", &self.port.to_string(), "-nmin", "60", "-index"]).arg(file("index"));
        command.arg("-CA").arg(file("ca")).arg("-rsigner").arg(file("pem")).arg("-rkey").arg(file("key"));
        let name = format!("responder-{}", self.port);
        let mut process = Process::start(&name, &self.folder, &mut command)?;
        self.starts += 1;
        // Not by connecting: a connection without a request makes openssl spin.
        wait_ok("the OCSP responder", PATIENCE, || {
            let log = process.log();
            let waits = log.matches("waiting for OCSP client connections").count() == self.starts;
            ensure!(waits || process.ended().is_some(), "{log}");
            Ok(())
        })?;
        ensure!(process.ended().is_none(), "the OCSP responder ended: {}", process.log());
        self.process = Some(process);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::free_port;
    use crate::netns::finish;

    #[test]
    fn a_responder_tells_good_revoked_and_unknown_and_takes_changes() {
        let folder = tempfile::tempdir().unwrap();
        let root = Authority::new("root").unwrap();
        root.save(&folder.path().join("root.pem")).unwrap();
        let leaf = root.order(folder.path(), "leaf", &Order::client()).unwrap();
        let mut responder = Responder::start(folder.path(), &root, free_port().unwrap()).unwrap();
        let url = responder.url.clone();
        let ask = || {
            let words = ["ocsp", "-issuer", "root.pem", "-cert", "leaf.pem", "-CAfile", "root.pem", "-url"];
            finish(Command::new("openssl").args(words).arg(&url).current_dir(folder.path())).unwrap()
        };
        assert!(ask().contains("leaf.pem: unknown"));
        for (state, word) in [(State::Good, "leaf.pem: good"), (State::Revoked, "leaf.pem: revoked")] {
            responder.set(&leaf, state).unwrap();
            let said = ask();
            assert!(said.contains(word), "{said}");
        }
    }
}
