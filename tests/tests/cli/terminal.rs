//! What the command line is on a terminal, in a pipe and in a package: colours, `--watch`, pages of the manual.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use lb_tests::edge::{Edge, cli_command};
use lb_tests::here::{Here, free_address};
use lb_tests::need::binary;
use lb_tests::programs;
use serde_json::Value;

/// A daemon whose pool has no backend, so that something is wrong.
pub(crate) fn unhealthy() -> Result<(Here, Edge<'static>)> {
    let here = Here::new()?;
    let service = format!("[service.web]\naddresses = [\"{}\"]\nmode = \"http\"\npool = \"app\"\n", free_address()?);
    let edge = here.start(&(here.head("") + &service + "[pool.app]\nbackends = []\n"))?;
    Ok((here, edge))
}

pub(crate) fn manual() -> Result<()> {
    let folder = lb_tests::lab::folder()?;
    let pages = folder.path().join("man");
    let outcome = cli_command(Command::new(binary("bailey")?).arg("man").arg(&pages))?;
    ensure!(outcome.code == Some(0), "{outcome:?}");
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).with_context(|| format!("the page {name}"));
    let first = page("bailey.1")?;
    ensure!(first.contains(".TH bailey 1") && first.contains("Exit codes"), "{first}");
    ensure!(page("bailey-pool-drain.1")?.contains("wait"), "{}", page("bailey-pool-drain.1")?);
    for verb in ["run", "check", "status", "service-show", "cert-self-sign", "reload", "man", "completions"] {
        page(&format!("bailey-{verb}.1"))?;
    }
    let outcome = cli_command(Command::new(binary("bailey")?).args(["man", "/proc/nowhere"]))?;
    ensure!(
        outcome.code == Some(1) && outcome.stderr.contains("a directory that this user can write to"),
        "{outcome:?}"
    );
    Ok(())
}

pub(crate) fn colours() -> Result<()> {
    let (_here, edge) = unhealthy()?;
    let coloured = |words: &[&str]| -> Result<bool> {
        let outcome = edge.cli(words)?;
        ensure!(outcome.code == Some(1) && outcome.stdout.contains("UNHEALTHY"), "{outcome:?}");
        Ok(outcome.stdout.contains('\x1b'))
    };
    ensure!(!coloured(&["status"])? && !coloured(&["status", "--color", "never"])?);
    ensure!(coloured(&["status", "--color", "always"])?);
    let outcome = edge.cli(&["status", "--json", "--color", "always"])?;
    ensure!(serde_json::from_str::<Value>(&outcome.stdout).is_ok(), "{outcome:?}");
    let outcome = edge.cli(&["pool", "show", "ap", "--color=always"])?;
    ensure!(outcome.stderr.contains("\x1b[") && outcome.stderr.contains("did you mean"), "{outcome:?}");
    Ok(())
}

pub(crate) fn a_terminal() -> Result<()> {
    let (here, _edge) = unhealthy()?;
    let (bailey, socket) = (binary("bailey")?, here.file("admin.sock"));
    let on_a_terminal = |before: &str, words: &str| {
        let line = format!("{before} {} --socket {} {words}", bailey.display(), socket.display());
        programs::run("script", &["-qec", &line, "/dev/null"], "")
    };
    let said = on_a_terminal("", "status")?;
    ensure!(said.code == Some(1) && said.has("\x1b[1m\x1b[31mUNHEALTHY"), "{said:?}");
    let said = on_a_terminal("NO_COLOR=1", "status")?;
    ensure!(said.has("UNHEALTHY") && !said.has("\x1b["), "{said:?}");
    // Written over, until it is ended from outside.
    let said = on_a_terminal("timeout 2", "status --watch 0.2")?;
    ensure!(said.text.matches("\x1b[Hbailey").count() > 2 && said.has("Ctrl-C ends"), "{said:?}");
    Ok(())
}

pub(crate) fn again() -> Result<()> {
    let (here, mut edge) = unhealthy()?;
    let mut command = Command::new(binary("bailey")?);
    command.arg("--socket").arg(here.file("admin.sock")).args(["pool", "show", "app", "--json", "--watch", "0.1"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    for _ in 0..3 {
        let line = lines.next().context("a line")??;
        ensure!(serde_json::from_str::<Value>(&line)?["name"] == "app", "{line}");
    }
    edge.stop()?;
    // Nobody waits for a daemon on behalf of a program.
    let last = lines.last().context("a last line")??;
    ensure!(last == "}", "{last}");
    ensure!(child.wait()?.code() == Some(1));
    let outcome = edge.cli(&["reload", "--watch"])?;
    ensure!(outcome.code == Some(2) && outcome.stderr.contains("lists or shows"), "{outcome:?}");
    Ok(())
}

pub(crate) fn no_reader() -> Result<()> {
    let mut command = Command::new(binary("bailey")?);
    let mut child = command.args(["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    let out = child.wait_with_output()?;
    ensure!(out.status.code() == Some(0) && out.stderr.is_empty(), "{out:?}");
    Ok(())
}
