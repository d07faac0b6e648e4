//! The kernel datapath on a real interface, in network namespaces of its own: connections, changes, crashes.

mod decap;
mod edge;
mod lab;
mod life;
mod log;
mod shield;
mod steered;
mod takeover;

use lb_tests::privilege;
use libtest_mimic::Arguments;

fn main() {
    let mut words = std::env::args().skip(1);
    if let (Some(life::HOLD), Some(name)) = (words.next().as_deref(), words.next()) {
        life::hold(&name);
    }
    let mut arguments = Arguments::from_args();
    // Workers share the CPUs that clients are pinned to.
    arguments.test_threads = Some(1);
    privilege::cpus();
    let missing = privilege::missing_for_bpf().map(str::to_owned).or_else(missing_tool);
    if let Some(missing) = &missing {
        eprintln!("datapath: every test is ignored: {missing}");
    }
    let trials = [steered::trials(), life::trials(), shield::trials(), decap::trials(), takeover::trials()]
        .into_iter()
        .flatten();
    let trials = trials.map(|trial| if missing.is_some() { trial.with_ignored_flag(true) } else { trial });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn missing_tool() -> Option<String> {
    let tools = ["ip", "ethtool", "nsenter", "setpriv"];
    let missing = tools.into_iter().find(|tool| std::process::Command::new(tool).arg("--version").output().is_err());
    missing.map(|tool| format!("{tool} is not installed; run: cargo xtask setup"))
}
