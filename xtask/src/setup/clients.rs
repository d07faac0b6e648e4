//! Clients that no distribution has new enough, as a Python environment in the target directory: sslyze, pyOpenSSL with an
//! OpenSSL of 3.5 or later, which knows X25519MLKEM768, and gRPC. They are optional: tests that need them are skipped
//! where they cannot be had.

use std::path::{Path, PathBuf};

use super::plan::{Plan, Step, install};

/// Name and version. cryptography is what carries OpenSSL.
const PACKAGES: &[(&str, &str)] =
    &[("sslyze", "6.3.1"), ("pyopenssl", "26.2.0"), ("cryptography", "46.0.7"), ("grpcio", "1.85.3")];
/// Packages that need a compiler where there is no binary of them: better to go without.
const NATIVE: &str = "cffi,cryptography,grpcio,nassl,pydantic-core";

/// What there is of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clients {
    /// All, in these versions.
    Ready,
    /// Not all, but Python can make an environment.
    Missing,
    /// Not all, and Python lacks `ensurepip` (Debian and Ubuntu have it in a package of its own) or is not there.
    NoVenv,
}

/// Where the environment is.
pub(crate) fn folder(target: &Path) -> PathBuf {
    target.join("venv")
}

/// Are all packages in `venv`? Not asked of Python, which takes a second to answer.
pub(crate) fn installed(venv: &Path) -> bool {
    let pythons = std::fs::read_dir(venv.join("lib")).into_iter().flatten().flatten();
    let mut sites = pythons.map(|python| python.path().join("site-packages"));
    sites.any(|site| PACKAGES.iter().all(|(name, version)| site.join(format!("{name}-{version}.dist-info")).is_dir()))
}

/// How they are had, as optional steps at the end of `plan`.
pub(crate) fn plan(clients: Clients, venv: &Path, plan: &mut Plan) {
    let begun = plan.steps.len();
    if clients == Clients::Ready {
        return;
    }
    if clients == Clients::NoVenv {
        install(&["python3".into(), "python3-venv".into()], plan);
    }
    let (folder, python) = (venv.display().to_string(), venv.join("bin/python").display().to_string());
    let wanted: Vec<String> = PACKAGES.iter().map(|(name, version)| format!("{name}=={version}")).collect();
    plan.steps.push(Step::new(
        format!("make: a Python environment for test clients in {folder}"),
        &["python3", "-m", "venv", "--clear", &folder],
    ));
    let pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input", "--only-binary", NATIVE];
    let mut fetch = Step::new(format!("install: {} (pip, into that environment)", wanted.join(" ")), &[&python]);
    // Soon done where there is no network.
    fetch.command.extend(pip.iter().chain(&["--retries", "1", "--timeout", "15"]).map(|word| (*word).to_string()));
    fetch.command.extend(wanted);
    plan.steps.push(fetch);
    for step in &mut plan.steps[begun..] {
        step.optional = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(clients: Clients) -> Vec<Step> {
        let mut made = Plan::default();
        plan(clients, Path::new("/w/target/venv"), &mut made);
        made.steps
    }

    #[test]
    fn nothing_is_done_where_the_clients_are() {
        assert!(steps(Clients::Ready).is_empty());
    }

    #[test]
    fn the_environment_is_made_and_filled_with_pinned_versions() {
        let steps = steps(Clients::Missing);
        assert_eq!(steps.len(), 2);
        assert!(steps.iter().all(|step| step.optional && !step.root));
        assert_eq!(steps[0].line(), "python3 -m venv --clear /w/target/venv");
        assert!(steps[1].line().starts_with("/w/target/venv/bin/python -m pip install"));
        assert!(steps[1].line().contains(" sslyze==") && steps[1].line().contains(" cryptography==46."));
    }

    #[test]
    fn a_python_without_venv_gets_it_first() {
        let steps = steps(Clients::NoVenv);
        assert!(steps[1].root && steps[1].line().ends_with("python3 python3-venv"));
        assert!(steps.len() == 4 && steps.iter().all(|step| step.optional));
    }

    #[test]
    fn an_environment_counts_only_with_every_package_in_its_version() {
        let venv = std::env::temp_dir().join(format!("xtask-clients-{}", std::process::id()));
        let site = venv.join("lib/python3.11/site-packages");
        for (name, version) in PACKAGES {
            assert!(!installed(&venv));
            std::fs::create_dir_all(site.join(format!("{name}-{version}.dist-info"))).unwrap();
        }
        assert!(installed(&venv));
        std::fs::rename(site.join("sslyze-6.3.1.dist-info"), site.join("sslyze-6.3.0.dist-info")).unwrap();
        assert!(!installed(&venv));
        std::fs::remove_dir_all(&venv).unwrap();
    }
}
