//! A machine of its own inside this one: what this one has installed, under an overlay, with a systemd that runs it. Nothing
//! that happens inside stays, or is seen outside.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::process::{Process, children, signal_process};
use crate::wait::{PATIENCE, wait_for};

/// Where systemd is.
pub(crate) const SYSTEMD: &str = "/lib/systemd/systemd";

/// What has changed in the room's file system since it was laid out: the overlay's upper layer.
pub const CHANGED: &str = "/srv/changed";

/// Lays the overlay out, takes away what would reach for the machine around it, and becomes systemd.
const BOOT: &str = r#"
set -e
room=$1
mount -t tmpfs room "$room"
mkdir "$room/upper" "$room/work" "$room/root" "$room/root.old"
mount -t overlay -o "lowerdir=/,upperdir=$room/upper,workdir=$room/work" overlay "$room/root"
cd "$room/root"
mount -t proc proc proc
mount -t sysfs sys sys
mount -t bpf bpf sys/fs/bpf
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mount --rbind /dev dev
units=etc/systemd/system
rm -rf "$units"/*.wants usr/sbin/policy-rc.d etc/dpkg/dpkg.cfg.d/*
# An index of all manuals takes longer than all the rest.
rm -f var/lib/man-db/auto-update
for unit in dev-hugepages.mount proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount sys-kernel-debug.mount \
	sys-kernel-tracing.mount systemd-binfmt.service systemd-journald-audit.socket systemd-logind.service \
	systemd-modules-load.service systemd-random-seed.service systemd-sysctl.service systemd-udevd.service \
	systemd-udev-trigger.service systemd-update-utmp.service tmp.mount; do
	ln -sf /dev/null "$units/$unit"
done
: > etc/machine-id
mkdir -p mnt srv/changed
mount --bind "$room/upper" srv/changed
pivot_root . mnt
umount -l mnt
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=basic.target --show-status=0
"#;

/// A room; gone, with every process in it, when dropped.
pub struct Room {
    /// Its first process, seen from here.
    first: u32,
    _process: Process,
}

impl Room {
    /// Boot one; its mounts are made over `folder/room`.
    pub fn boot(folder: &Path) -> Result<Self> {
        let over = folder.join("room");
        std::fs::create_dir(&over)?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child=KILL"]);
        command.args(["sh", "-c", BOOT, "sh"]).arg(over);
        let process = Process::start("room", folder, &mut command)?;
        let first =
            wait_for("the room's first process", PATIENCE, || children(process.id()).first().map(|child| child.0))?;
        let room = Self { first, _process: process };
        wait_for("the room's systemd", PATIENCE, || {
            let said = room.command("systemctl", &["is-system-running"]).output().ok()?;
            ["running", "degraded"].contains(&String::from_utf8_lossy(&said.stdout).trim()).then_some(())
        })?;
        Ok(room)
    }

    /// A command inside.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.to_string()]);
        command.args(["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--root", "--wd", "--"]);
        command.args([
            "env",
            "-i",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL=C.UTF-8",
            "DEBIAN_FRONTEND=noninteractive",
        ]);
        command.arg(program).args(arguments);
        command
    }

    /// Run one to its end: its standard output, or an error with all that it said.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        crate::netns::finish(&mut self.command(program, arguments))
    }

    /// The same by a shell.
    pub fn shell(&self, script: &str) -> Result<String> {
        self.run("sh", &["-ec", script])
    }

    /// Run one that must fail; all that it said.
    pub fn refused(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let out = self.command(program, arguments).output().with_context(|| format!("start {program}"))?;
        let said = [out.stdout, out.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).join("\n");
        if out.status.success() {
            bail!("{program} {arguments:?} did not fail: {said}");
        }
        Ok(said)
    }

    /// A file of outside, inside.
    pub fn bring(&self, from: &Path, to: &str) -> Result<()> {
        let target = format!("/proc/{}/root{to}", self.first);
        std::fs::copy(from, &target).with_context(|| format!("copy {} to {target}", from.display())).map(drop)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // The namespace's other processes end with it.
        let _ = signal_process(self.first, Signal::KILL);
    }
}
