//! Journals that are damaged, half written, of another release, or another edge's.

use std::io::Write as _;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lb_tests::edge::cli_command;
use lb_tests::harness::{Test, plain};
use lb_tests::need::binary;

use crate::site::{Site, kill};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        plain("a_damaged_journal_is_read_to_its_last_good_line_and_the_loss_told", damaged),
        plain("a_journal_of_a_later_release_is_left_alone", later),
        plain("a_state_directory_is_one_edges", locked),
    ]
}

fn damaged() -> Result<()> {
    let site = Site::new()?;
    let config = site.config();
    let edge = site.here.start(&config)?;
    for weight in ["2", "3", "4"] {
        edge.done(&["pool", "weight", "app", &site.backend.address.to_string(), weight])?;
    }
    kill(edge)?;
    let journal = site.state("journal");
    let weight = |edge: &lb_tests::edge::Edge<'_>| -> Result<u64> {
        edge.json(&["pool", "show", "app"])?["backends"][0]["weight"].as_u64().context("weight")
    };
    // The power went in the midst of a line: nobody had an answer to it.
    let whole = std::fs::read(&journal)?;
    std::fs::OpenOptions::new().append(true).open(&journal)?.write_all(b"0123abcd {\"entry\":\"chan")?;
    let edge = site.here.start(&config)?;
    ensure!(weight(&edge)? == 4 && edge.cli(&["status"])?.code == Some(0));
    ensure!(edge.log().contains("half written"), "{}", edge.log());
    kill(edge)?;
    // A bit fell over in the last change but one.
    let text = String::from_utf8(whole)?;
    let bad = text.replace("\"pool weight app", "\"pool weighT app");
    let second = text.match_indices("\"pool weight app").nth(1).context("a second change")?.0;
    std::fs::write(&journal, [&text[..second], &bad[second..]].concat())?;
    let edge = site.here.start(&config)?;
    ensure!(weight(&edge)? == 2, "the first change holds");
    let status = edge.cli(&["status"])?;
    ensure!(status.code == Some(1) && status.stdout.contains("everything after change 1 is lost"), "{status:?}");
    ensure!(std::fs::read_to_string(site.state("journal.damaged"))?.contains("weighT"));
    ensure!(edge.metrics()?.sum("bailey_state_damaged", &[]) == 1.0);
    site.serves()?;
    edge.done(&["pool", "weight", "app", &site.backend.address.to_string(), "9"])?;
    kill(edge)?;
    let edge = site.here.start(&config)?;
    ensure!(weight(&edge)? == 9 && edge.cli(&["status"])?.code == Some(0));
    ensure!(edge.json(&["history"])?["last"] == 2);
    Ok(())
}

/// `bailey run` ends with 1 and these words.
fn does_not_start(site: &Site, config: &str, words: &[&str]) -> Result<()> {
    let file = site.here.file("bailey.toml");
    std::fs::write(&file, config)?;
    let outcome = cli_command(Command::new(binary("bailey")?).args(["run", "--config"]).arg(&file))?;
    ensure!(outcome.code == Some(1), "{outcome:?}");
    for word in words {
        ensure!(outcome.stderr.contains(word), "no {word:?}: {}", outcome.stderr);
    }
    Ok(())
}

fn later() -> Result<()> {
    let site = Site::new()?;
    let journal = site.state("journal");
    std::fs::create_dir_all(site.here.file("state"))?;
    // As a release 9 would begin it.
    let text = include_str!("later.journal");
    std::fs::write(&journal, text)?;
    does_not_start(&site, &site.config(), &["format 2", "bailey 9.0.0", "move the file away"])?;
    ensure!(std::fs::read_to_string(&journal)? == text);
    Ok(())
}

fn locked() -> Result<()> {
    let site = Site::new()?;
    let edge = site.here.start(&site.config())?;
    let other = Site::new()?;
    let config = other.config_with(&format!("state = {:?}\n", site.here.file("state")), "", "");
    does_not_start(&other, &config, &["another edge's", &edge.id().to_string()])?;
    edge.done(&["pool", "add", "app", "127.0.0.1:8"])?;
    site.serves()
}
