//! The Debian package and its unit, in a room with a systemd of its own.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use lb_tests::harness::{main as run, room, with};
use lb_tests::lab::folder;
use lb_tests::need::binary;
use lb_tests::netns::finish;
use lb_tests::room::{CHANGED, Room};
use lb_tests::wait::{PATIENCE, wait_ok};

/// What `systemd-analyze security` may say at the most; 10 is unprotected.
const EXPOSURE: f64 = 3.2;
/// A service that answers by itself.
const SITE: &str = r#"
[service.web]
addresses = ["192.0.2.10:80"]
mode = "http"
pool = "app"

[pool.app]
backends = ["127.0.0.1:8080"]
"#;
/// An edge beside it.
const OLD: &str = r#"
[edge]
name = "old"
datapath = "sockets"
[admin]
socket = "admin.sock"
metrics = "127.0.0.1:9423"
[service.web]
addresses = ["127.0.0.1:8081"]
mode = "http"
pool = "app"
[pool.app]
backends = ["127.0.0.1:8080"]
"#;
/// How it is asked.
const ASK: &str = "curl -sS -m 5 -o /dev/null -w '%{http_code}' http://192.0.2.10/";

fn main() -> ExitCode {
    run(vec![
        with("the_unit_is_as_hardened_as_the_guide_says", &["systemd-analyze"], hardened),
        room("the_package_installs_runs_upgrades_and_goes", package),
    ])
}

fn hardened() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
    let unit = root.join("deploy/bailey.service");
    let said = finish(Command::new("systemd-analyze").args(["security", "--offline=yes", "--no-pager"]).arg(unit))?;
    let score = said.split("exposure level for bailey.service:").nth(1).context("no score")?;
    let score: f64 = score.split_whitespace().next().context("no number")?.parse()?;
    ensure!(score <= EXPOSURE, "{score}, meant: {EXPOSURE}\n{said}");
    let guide = std::fs::read_to_string(root.join("docs/operating.md"))?;
    ensure!(guide.contains(&format!("exposure level of {EXPOSURE}")), "docs/operating.md does not name {EXPOSURE}");
    Ok(())
}

fn package() -> Result<()> {
    let folder = folder()?;
    let (room, packages) = std::thread::scope(|scope| {
        let packages = scope.spawn(|| [1, 2].map(|revision| dist(folder.path(), revision)));
        (Room::boot(folder.path()), packages.join())
    });
    let (room, packages) = (room?, packages.map_err(|_| anyhow::anyhow!("a panic while packaging"))?);
    for (number, package) in (1..).zip(packages) {
        room.bring(&package?, &format!("/tmp/{number}.deb"))?;
    }
    story(&room).map_err(|error| {
        let journal =
            room.shell("journalctl --no-pager -n 60 -u bailey 2>&1; systemctl status --no-pager bailey 2>&1 || true");
        anyhow::anyhow!("{error:#}\n{}", journal.unwrap_or_default())
    })
}

fn story(room: &Room) -> Result<()> {
    let before = changed(room)?;
    installs(room)?;
    serves(room)?;
    serves_without_layers(room)?;
    let pins = "ls /sys/fs/bpf | grep bailey- || true";
    ensure!(room.shell(pins)?.contains("bailey-"), "no pins under the unit");
    survives_a_crash(room)?;
    upgrades(room)?;

    room.run("dpkg", &["--remove", "bailey"])?;
    ensure!(room.refused("systemctl", &["is-active", "bailey"])?.contains("inactive"));
    ensure!(room.shell("pgrep bailey || true")?.is_empty(), "{}", room.shell("ps axf")?);
    ensure!(room.shell(pins)?.is_empty());
    room.shell("test -f /etc/bailey/bailey.toml && ! test -e /usr/bin/bailey")?;
    room.shell("echo mine > /etc/bailey/site.key")?;
    room.run("dpkg", &["--purge", "bailey"])?;
    room.shell("test -f /etc/bailey/site.key && rm -r /etc/bailey")?;
    let after = changed(room)?;
    // Nobody else gets the user's number while files may be left that are the user's.
    let users = ["./etc/passwd", "./etc/shadow", "./etc/group", "./etc/gshadow"];
    let new: Vec<_> = after.difference(&before).filter(|file| !users.contains(&file.as_str())).collect();
    ensure!(new.is_empty(), "left behind: {new:?}");
    Ok(())
}

fn installs(room: &Room) -> Result<()> {
    room.run("dpkg", &["--force-unsafe-io", "--install", "/tmp/1.deb"])?;
    ensure!(room.run("systemctl", &["is-active", "bailey"])?.trim() == "active");
    ensure!(room.run("systemctl", &["is-enabled", "bailey"])?.trim() == "enabled");
    ensure!(room.run("dpkg", &["--verify", "bailey"])?.is_empty(), "files are not as they were packed");
    room.shell("test -s /usr/share/man/man1/bailey.1.gz && test -s /usr/share/bash-completion/completions/bailey")?;
    room.run("systemd-analyze", &["verify", "/usr/lib/systemd/system/bailey.service"])?;
    // As root without a privilege over files, the socket is its group's all the same.
    ensure!(room.run("stat", &["-c", "%U:%G %a", "/run/bailey/admin.sock"])?.trim() == "root:bailey 660");
    let worker = room.shell("ps -o user= -p $(pgrep bailey-worker | head -1)")?;
    ensure!(worker.trim() == "bailey", "the worker is {worker:?}");
    let status = room.run("bailey", &["status", "--json"])?;
    let status: serde_json::Value = serde_json::from_str(&status)?;
    ensure!(status["worker"]["unconfined"].as_array().is_some_and(Vec::is_empty), "{status}");
    Ok(())
}

/// On ordinary listeners, after a reload, and by XDP, after a restart: all of it is possible under the unit.
fn serves(room: &Room) -> Result<()> {
    room.shell(
        "ip link set lo up; ip link add eth0 type veth peer name eth1; ip link set eth0 up; ip link set eth1 up",
    )?;
    room.shell("ip addr add 192.0.2.10/32 dev lo")?;
    room.shell("mkdir -p /tmp/www; systemd-run --unit=backend python3 -m http.server -d /tmp/www 8080")?;
    let config = "/etc/bailey/bailey.toml";
    room.shell(&format!("cat >> {config} <<'END'\n{SITE}\nEND\nsystemctl reload bailey"))?;
    asked(room)?;
    room.shell(&format!("cp {config} /tmp/good.toml; echo '[nonsense]' >> {config}"))?;
    // Why stands in the journal.
    room.refused("systemctl", &["reload", "bailey"])?;
    room.shell("journalctl --sync; journalctl -u bailey | grep nonsense")?;
    room.shell(&format!(
        "sed 's/^datapath.*/datapath = \"generic\"\\ninterfaces = [\"eth0\"]/' /tmp/good.toml > {config}; \
         ip addr del 192.0.2.10/32 dev lo; systemctl restart bailey"
    ))?;
    asked(room)
}

/// On a kernel that knows neither Landlock nor seccomp, as it looks from inside, and it says so.
fn serves_without_layers(room: &Room) -> Result<()> {
    room.shell(&format!(
        "mkdir /run/old; cat > /run/old/bailey.toml <<'END'\n{OLD}\nEND\n\
         systemd-run --unit=old --property='SystemCallFilter=~landlock_create_ruleset seccomp' \
         --property=SystemCallErrorNumber=ENOSYS bailey run --config /run/old/bailey.toml"
    ))?;
    let status = wait_ok("the worker's word", PATIENCE, || {
        let said = room.run("bailey", &["--socket", "/run/old/admin.sock", "status", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&said)?;
        ensure!(status["worker"]["unconfined"].is_array(), "{status}");
        Ok(status)
    })?;
    let lacks = status["worker"]["unconfined"].to_string();
    ensure!(lacks.contains("this kernel has no Landlock") && lacks.contains("seccomp: "), "{lacks}");
    ensure!(status["warnings"].to_string().contains("confined less than it is meant to be"), "{status}");
    ensure!(room.shell("curl -sS http://127.0.0.1:9423/metrics")?.contains("bailey_worker_confined 0"));
    let code = room.shell("curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1:8081/")?;
    ensure!(code == "200", "{code}");
    room.run("systemctl", &["stop", "old"]).map(drop)
}

fn survives_a_crash(room: &Room) -> Result<()> {
    let main = "systemctl show --property MainPID --value bailey";
    let first = room.shell(main)?;
    room.shell(&format!("kill -KILL $({main})"))?;
    wait_ok("the next control plane", PATIENCE, || {
        let next = room.shell(main)?;
        ensure!(next != first && next.trim() != "0", "{next}");
        room.run("bailey", &["status"])
    })?;
    asked(room)
}

/// Requests are answered while the package is replaced, and the operator's config stays.
fn upgrades(room: &Room) -> Result<()> {
    room.shell(&format!(
        "cat > /tmp/asking.sh <<'END'\nuntil test -e /tmp/enough; do\n{ASK} || echo failed\necho\ndone\nEND\n\
         systemd-run --unit=asking --property=StandardOutput=file:/tmp/answers sh /tmp/asking.sh"
    ))?;
    let before = room.run("cat", &["/etc/bailey/bailey.toml"])?;
    let said = room.run("dpkg", &["--force-unsafe-io", "--install", "/tmp/2.deb"])?;
    // By a release that can.
    let can = room.command("bailey", &["upgrade", "--help"]).output()?.status.success();
    let meant = if can { "bailey: the running edge was upgraded" } else { "bailey: the running edge goes on" };
    ensure!(said.contains(meant), "{said}");
    ensure!(room.run("cat", &["/etc/bailey/bailey.toml"])? == before);
    ensure!(room.run("dpkg-query", &["-W", "-f", "${Version}", "bailey"])?.ends_with("-2"));
    ensure!(room.run("systemctl", &["is-active", "bailey"])?.trim() == "active");
    room.shell("touch /tmp/enough; while systemctl is-active --quiet asking; do sleep 0.05; done")?;
    let answers = room.shell("sort /tmp/answers | uniq -c")?;
    ensure!(answers.lines().count() == 1 && answers.trim().ends_with(" 200"), "{answers}");
    asked(room)
}

fn asked(room: &Room) -> Result<()> {
    wait_ok("an answer", PATIENCE, || {
        let code = room.shell(ASK)?;
        ensure!(code == "200", "{code}");
        Ok(())
    })
}

fn dist(folder: &Path, revision: u32) -> Result<PathBuf> {
    let binaries = binary("bailey")?;
    let mut xtask = Command::new(binary("xtask")?);
    xtask.arg("dist").arg("--binaries").arg(binaries.parent().context("no directory")?);
    xtask.args(["--fast", "--revision", &revision.to_string(), "--output"]).arg(folder);
    Ok(finish(&mut xtask)?.trim().into())
}

/// Every file that is not as it is outside the room, but dpkg's own, systemd's and caches.
fn changed(room: &Room) -> Result<HashSet<String>> {
    let found = room.shell(&format!(
        "cd {CHANGED}; find . -not -type d -not -path './var/lib/dpkg/*' -not -path './var/log/*' \
         -not -path './var/lib/systemd/*' -not -path './var/cache/*' -not -path './var/tmp/*' -not -path './etc/*-'; \
         find . -name '*bailey*' -not -path './var/lib/dpkg/*' -not -path './var/cache/*'"
    ))?;
    Ok(found.lines().map(String::from).collect())
}
