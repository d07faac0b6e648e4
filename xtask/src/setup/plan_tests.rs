//! The plan from machines that lack this or that.

use super::*;
use crate::setup::clients::Clients;

/// With rustup and the test's clients, and else nothing.
fn bare() -> Machine {
    Machine {
        rustup: true,
        bpf: None,
        nightly: None,
        linker: None,
        missing_tools: Vec::new(),
        clients: Clients::Ready,
        venv: "/w/target/venv".into(),
        bpffs: true,
        offered: Default::default(),
    }
}

fn ready() -> Machine {
    let bpf = Some(Compiler { sources: true, llvm: 22, carries_llvm: false });
    Machine { bpf, linker: Some(Linker::System(22)), ..bare() }
}

fn says(machine: &Machine) -> Vec<String> {
    make(machine).unwrap().steps.into_iter().map(|step| step.says).collect()
}

fn offering(names: &[&str]) -> Machine {
    let offered = names.iter().map(|name| ((*name).to_string(), "1".to_string())).collect();
    Machine { offered, ..bare() }
}

#[test]
fn a_machine_that_has_everything_needs_no_step() {
    assert_eq!(says(&ready()), Vec::<String>::new());
}

#[test]
fn a_fresh_machine_takes_rustups_way_and_can_fall_back() {
    let plan = make(&bare()).unwrap();
    assert_eq!(plan.steps.len(), 3);
    assert!(plan.steps[0].command.contains(&NIGHTLY.to_string()) && plan.steps[0].or_else.is_some());
    assert!(plan.steps[1].line().contains("toolchain link bpf"));
    assert!(plan.steps[2].command.ends_with(&["rust-llvm-22".to_string()]));
}

#[test]
fn the_distributions_way_prefers_debians_browser_compiler() {
    let plan = distribution_way(&offering(&["rustc-web", "cargo-web", "rust-web-src", "rustc-1.91"])).unwrap();
    assert!(plan.steps[1].says.contains("rustc-web cargo-web rust-web-src"), "{:?}", plan.steps);
    assert!(plan.steps[2].line().ends_with("link bpf /usr"));
}

#[test]
fn ubuntus_newest_compiler_with_all_its_parts_is_taken() {
    let parts = ["rustc-1.93", "cargo-1.93", "rustc-1.91", "cargo-1.91", "rust-1.91-src"];
    let plan = distribution_way(&offering(&parts)).unwrap();
    assert!(plan.steps[1].says.ends_with("rustc-1.91 cargo-1.91 rust-1.91-src"), "{:?}", plan.steps);
    assert!(plan.steps[2].line().ends_with("link bpf /usr/lib/rust-1.91"));
}

#[test]
fn without_any_compiler_the_error_names_what_was_looked_for() {
    let error = distribution_way(&offering(&["rustc-1.75"])).unwrap_err().to_string();
    assert!(error.contains("rustc-web") && error.contains("rustc-1.97"), "{error}");
}

#[test]
fn a_linker_of_another_llvm_is_built_again() {
    let machine = Machine { linker: Some(Linker::System(21)), ..ready() };
    let plan = make(&machine).unwrap();
    let last = plan.steps.last().unwrap();
    assert!(last.line().starts_with("LLVM_PREFIX=/usr/lib/llvm-22 LLVM_SYS_221_PREFIX=/usr/lib/llvm-22 cargo"));
    assert!(plan.steps.iter().any(|step| step.says.contains("llvm-22-dev") && step.root));
}

#[test]
fn a_borrowing_linker_does_not_serve_the_distributions_compiler() {
    assert_eq!(says(&Machine { linker: Some(Linker::Borrowed), ..ready() }).len(), 3);
    let carried = Compiler { sources: true, llvm: 22, carries_llvm: true };
    let machine = Machine { linker: Some(Linker::Borrowed), bpf: Some(carried), ..ready() };
    assert!(says(&machine).is_empty());
}

#[test]
fn a_nightly_too_new_for_the_linker_is_not_taken() {
    let new = Compiler { sources: true, llvm: 23, carries_llvm: true };
    let machine = Machine { bpf: None, nightly: Some(new), ..ready() };
    assert!(says(&machine)[0].contains(NIGHTLY));
}

#[test]
fn a_missing_program_is_installed_from_the_first_package_offered() {
    let machine = Machine { missing_tools: vec!["nginx", "wrk"], ..ready() };
    let machine = Machine { offered: offering(&["nginx", "nginx-core", "wrk"]).offered, ..machine };
    assert_eq!(says(&machine)[1], "install: nginx-core wrk");
    let none = Machine { offered: offering(&["nginx"]).offered, ..machine };
    assert!(make(&none).unwrap_err().to_string().contains("`wrk`"));
}

#[test]
fn every_ubuntu_version_is_tried_newest_first() {
    let minors: Vec<u32> = DISTRIBUTION_WAYS
        .iter()
        .filter_map(|way| if let DistributionWay::Versioned(minor) = way { Some(*minor) } else { None })
        .collect();
    assert_eq!(minors, (88..=97).rev().collect::<Vec<_>>());
}

#[test]
fn missing_clients_are_fetched_but_never_required() {
    let plan = make(&Machine { clients: Clients::Missing, ..ready() }).unwrap();
    assert!(plan.steps.len() == 2 && plan.steps.iter().all(|step| step.optional), "{:?}", plan.steps);
}
