//! Bad input: a clear error, exit 1, and nothing changed.

use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};
use lb_tests::edge::{Outcome, check, cli_command};
use lb_tests::harness::{lab, main as run, plain};
use lb_tests::lab::{Lab, folder};
use lb_tests::left::Left;
use lb_tests::need::binary;
use lb_tests::netns::finish;
use lb_tests::pki::Authority;
use lb_tests::{edge::Edge, foreign};

fn main() -> ExitCode {
    run(vec![
        plain("check_takes_a_good_config_and_the_example", good_configs),
        plain("check_names_every_problem_at_once_with_its_line", every_problem),
        lab("run_refuses_a_bad_config_and_leaves_nothing", refuses_config),
        lab("run_refuses_an_interface_that_is_not_there", no_interface),
        lab("run_refuses_an_interface_with_somebody_elses_program_and_names_it", foreign_program),
        lab("run_refuses_a_second_edge_of_the_same_name", second_edge),
        lab("run_without_permission_says_so", no_permission),
    ])
}

fn good(folder: &std::path::Path) -> Result<String> {
    Authority::new("check")?.issue(folder, "site", &["site.test"])?;
    Ok("[edge]\ndatapath = \"sockets\"\n[certificate.site]\nchain = \"site.pem\"\nkey = \"site.key\"\n\
        [service.web]\naddresses = [\"127.0.0.1:8443\"]\nmode = \"https\"\ncertificates = [\"site\"]\npool = \"app\"\n\
        [pool.app]\nbackends = [\"127.0.0.1:8080\"]\n"
        .into())
}

fn good_configs() -> Result<()> {
    let folder = folder()?;
    let outcome = check(folder.path(), &good(folder.path())?)?;
    ensure!(outcome.code == Some(0), "{outcome:?}");
    std::fs::write(folder.path().join("deny.txt"), "192.0.2.0/24\n")?;
    for example in ["bailey.toml", "bailey-l4.toml"] {
        let text = std::fs::read_to_string(format!("{}/../deploy/{example}", env!("CARGO_MANIFEST_DIR")))?;
        // The example's interface is an ordinary host's; every host has this one.
        let outcome = check(folder.path(), &text.replace("[\"eth0\"]", "[\"lo\"]"))?;
        ensure!(outcome.code == Some(0), "deploy/{example}: {outcome:?}");
    }
    Ok(())
}

fn every_problem() -> Result<()> {
    let folder = folder()?;
    let good = good(folder.path())?;
    Authority::new("other")?.issue(folder.path(), "other", &["site.test"])?;
    // (what is replaced, by what, what the answer must contain)
    let wrongs = [
        ("backends = ", "backend = ", vec!["backend", "backends", "checked.toml:12:"]),
        ("mode = \"https\"", "mode = \"htps\"", vec!["htps", "https"]),
        ("pool = \"app\"", "pool = \"apl\"", vec!["apl", "app"]),
        ("key = \"site.key\"", "key = \"gone.key\"", vec!["gone.key"]),
        ("key = \"site.key\"", "key = \"other.key\"", vec!["other.key", "site.pem"]),
        ("127.0.0.1:8443", "127.0.0.1", vec!["127.0.0.1"]),
        ("[pool.app]", "[pool.app]\ntimeouts.connect = \"5 parsecs\"", vec!["5 parsecs"]),
    ];
    for (what, with, named) in &wrongs {
        let outcome = check(folder.path(), &good.replace(what, with))?;
        refused(&outcome, named)?;
    }
    let forwarded = good.replace("mode = \"https\"", "mode = \"l4\"").replace("127.0.0.1:8443", "127.0.0.1:5-4");
    refused(&check(folder.path(), &forwarded)?, &["needs XDP", "5-4", "forward", "`certificates` belongs to"])?;
    std::fs::write(folder.path().join("deny.txt"), "10.0.0.0/8\n10.0.0.1/8\n")?;
    let denied =
        good.replace("datapath = \"sockets\"", "interfaces = [\"lo\"]") + "[shield]\ndeny_files = [\"deny.txt\"]\n";
    refused(&check(folder.path(), &denied)?, &["deny.txt:2", "10.0.0.1/8", "10.0.0.0/8"])?;
    let twice = good.clone() + "[service.again]\naddresses = [\"127.0.0.1:8443\"]\nmode = \"http\"\npool = \"app\"\n";
    refused(&check(folder.path(), &twice)?, &["127.0.0.1:8443", "again", "web"])?;
    let all = good.replace("mode = \"https\"", "mode = \"htps\"").replace("backends = ", "backend = ");
    refused(&check(folder.path(), &(all + "max_idel = 3\n"))?, &["htps", "backend", "max_idel", "max_idle"])?;
    Ok(())
}

/// Exit 1, every word in what was said, and no panic's trace.
fn refused(outcome: &Outcome, words: &[&str]) -> Result<()> {
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    ensure!(outcome.code == Some(1), "not refused: {outcome:?}");
    for word in words {
        ensure!(said.contains(word), "{word:?} is not named:\n{said}");
    }
    ensure!(!said.contains("panicked") && !said.contains("stack backtrace"), "{said}");
    Ok(())
}

/// `bailey run` in the lab's edge, which must end by itself.
fn run_in(lab: &Lab, config: &str) -> Result<Outcome> {
    let file = lab.folder().join("bad.toml");
    std::fs::write(&file, config)?;
    let mut command = lab.edge.host_command("timeout");
    cli_command(command.arg("20").arg(binary("bailey")?).args(["run", "--config"]).arg(&file))
}

fn refuses_config() -> Result<()> {
    let lab = Lab::new(1)?;
    let config = lab.site("", "");
    for (what, with, named) in [
        ("mode = ", "moed = ", "moed"),
        ("edge.key", "gone.key", "gone.key"),
        ("10.99.0.1:443", "10.99.0.1:443\", \"10.99.0.1:443", "10.99.0.1:443"),
    ] {
        refused(&run_in(&lab, &config.replace(what, with))?, &[named])?;
        ensure!(Left::see(&lab)?.is_nothing(), "{:?}", Left::see(&lab)?);
    }
    Ok(())
}

fn no_interface() -> Result<()> {
    let lab = Lab::new(1)?;
    let outcome = run_in(&lab, &lab.site("", "").replace("[\"wan\"]", "[\"wan\", \"wann\"]"))?;
    refused(&outcome, &["wann", "dmz1"])?;
    ensure!(Left::see(&lab)?.is_nothing(), "{:?}", Left::see(&lab)?);
    Ok(())
}

fn foreign_program() -> Result<()> {
    let lab = Lab::new(1)?;
    let foreign = foreign::attach(&lab.edge, "wan")?;
    // The other interface comes first: what was attached there must be undone.
    let outcome = run_in(&lab, &lab.site("", "").replace("[\"wan\"]", "[\"dmz1\", \"wan\"]"))?;
    refused(&outcome, &["wan", foreign::NAME])?;
    let left = Left::see(&lab)?;
    ensure!(left.program && !left.pins && left.routes.is_empty() && !left.lookups, "{left:?}");
    let first = lab.edge.output("ip", &["-d", "link", "show", "dev", "dmz1"])?;
    ensure!(!first.contains("prog/xdp"), "{first}");
    drop(foreign);
    // And with it gone the same edge starts.
    let edge = Edge::start(&lab, &lab.site("", ""))?;
    drop(edge);
    Ok(())
}

fn second_edge() -> Result<()> {
    let lab = Lab::new(1)?;
    let config = lab.site("", "");
    let edge = Edge::start(&lab, &config)?;
    let before = Left::see(&lab)?;
    let second = config.replace("admin.sock", "second.sock").replace("127.0.0.1:9100", "127.0.0.1:9101");
    refused(&run_in(&lab, &second)?, &[&lab.name])?;
    ensure!(Left::see(&lab)? == before, "{before:?} became {:?}", Left::see(&lab)?);
    ensure!(edge.cli(&["status"])?.code == Some(0));
    Ok(())
}

fn no_permission() -> Result<()> {
    let lab = Lab::new(1)?;
    let file = lab.folder().join("bad.toml");
    std::fs::write(&file, lab.site("", ""))?;
    // Readable for the user that tries; the target directory need not be, so the program goes along.
    let program = lab.folder().join("bailey");
    std::fs::copy(binary("bailey")?, &program)?;
    std::fs::copy(binary("bailey-worker")?, lab.folder().join("bailey-worker"))?;
    // Everything else is allowed to it: its folder, its key.
    finish(Command::new("chown").args(["-R", "nobody:nogroup"]).arg(lab.folder()))?;
    let mut command = lab.edge.host_command("timeout");
    command.args(["20", "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
    let outcome = cli_command(command.arg(&program).args(["run", "--config"]).arg(&file))?;
    refused(&outcome, &["permission", "root", "sockets"])?;
    ensure!(Left::see(&lab)?.is_nothing());
    Ok(())
}
