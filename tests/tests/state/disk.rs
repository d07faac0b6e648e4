//! A disk that is full, and one that may not be written: changes are refused with the reason, and traffic is not touched.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lb_tests::harness::{Test, lab};
use lb_tests::wait::{PATIENCE, wait_ok};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::site::{Site, kill, refused};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        lab("a_full_disk_refuses_changes_and_serves_on", full),
        lab("a_directory_that_may_not_be_written_refuses_changes_and_serves_on", read_only),
    ]
}

/// A small disk; gone when dropped.
struct Disk(PathBuf);

impl Disk {
    fn new(at: &Path) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        let options = std::ffi::CString::new("size=512k,mode=700")?;
        mount("tmpfs", at, "tmpfs", MountFlags::empty(), options.as_c_str())?;
        Ok(Self(at.to_owned()))
    }

    fn writable(&self, writable: bool) -> Result<()> {
        let flags = if writable { MountFlags::empty() } else { MountFlags::RDONLY };
        Ok(mount_remount(&self.0, flags, c"size=512k")?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn full() -> Result<()> {
    let site = Site::new()?;
    let disk = Disk::new(&site.here.file("state"))?;
    // Sessions are of no matter here, and their store would take the room.
    let config = site.config_with("state = \"state\"\nstate_sessions = 0\n", "", "");
    let edge = site.here.start(&config)?;
    edge.done(&["pool", "add", "app", "127.0.0.1:8"])?;
    let ballast = disk.0.join("ballast");
    // Not even a page is left.
    let written = std::fs::write(&ballast, vec![0; 1 << 20]);
    ensure!(written.is_err(), "the disk is larger than it should be");
    let mut made = 1;
    let words = ["cannot be kept in", "No space left on device", "make room"];
    loop {
        // The page that the journal has may hold some more.
        let outcome = edge.cli(&["pool", "weight", "app", "127.0.0.1:8", &(made + 1).to_string()])?;
        if outcome.code != Some(0) {
            break;
        }
        made += 1;
        ensure!(made < 200, "the disk is not full");
    }
    refused(&edge, &["pool", "drain", "app", "127.0.0.1:8"], &words)?;
    site.serves()?;
    let status = edge.json(&["status"]).err().context("it is unhealthy")?.to_string();
    ensure!(status.contains("changes are refused") && status.contains("No space left"), "{status}");
    let metrics = edge.metrics()?;
    ensure!(metrics.sum("bailey_state_writable", &[]) == 0.0, "{}", edge.metrics_text()?);
    // The file is taken all the same.
    edge.rewrite(&(config.clone() + "timeouts.idle = \"1m\"\n"))?;
    edge.done(&["reload"])?;
    ensure!(edge.json(&["pool", "show", "app"])?["backends"].to_string().contains(&format!("\"weight\":{made}")));
    std::fs::remove_file(&ballast)?;
    edge.done(&["pool", "drain", "app", "127.0.0.1:8"])?;
    wait_ok("health", PATIENCE, || edge.done(&["status"]))?;
    kill(edge)?;
    let edge = site.here.start(&config)?;
    let pool = edge.json(&["pool", "show", "app"])?["backends"].to_string();
    ensure!(pool.contains("draining") && pool.contains(&format!("\"weight\":{made}")), "{pool}");
    Ok(())
}

fn read_only() -> Result<()> {
    let site = Site::new()?;
    let disk = Disk::new(&site.here.file("state"))?;
    let config = site.config();
    let edge = site.here.start(&config)?;
    edge.done(&["pool", "add", "app", "127.0.0.1:8", "--weight", "7"])?;
    kill(edge)?;
    disk.writable(false)?;
    // What is there holds; nothing is added to it.
    let edge = site.here.start(&config)?;
    site.serves()?;
    ensure!(edge.json(&["pool", "show", "app"])?["backends"].to_string().contains("\"weight\":7"));
    refused(&edge, &["pool", "drain", "app", "127.0.0.1:8"], &["Read-only file system", "nothing changed"])?;
    disk.writable(true)?;
    edge.done(&["pool", "drain", "app", "127.0.0.1:8"])?;
    wait_ok("health", PATIENCE, || edge.done(&["status"]))?;
    ensure!(edge.metrics()?.sum("bailey_state_writable", &[]) == 1.0);
    Ok(())
}
