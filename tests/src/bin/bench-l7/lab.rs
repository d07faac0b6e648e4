//! What all edges of a run share: a directory, certificates, CPUs, the programs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use lb_tests::netns;
use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};
use tempfile::TempDir;

use crate::origin::Origin;
use crate::pki::Pki;

/// Open files that 1,000 connections through an edge need, with room.
const OPEN_FILES: u64 = 8192;

pub(crate) struct Lab {
    pub(crate) directory: TempDir,
    pub(crate) pki: Pki,
    pub(crate) origin: Origin,
    pub(crate) edge_cpu: usize,
    /// Directory of `bailey` and `bailey-worker`.
    pub(crate) programs: PathBuf,
}

impl Lab {
    /// Moves this program, which is a load generator too, to `load_cpu`, and starts the origin there.
    pub(crate) fn new(edge_cpu: usize, load_cpu: usize, programs: Option<&Path>) -> Result<Self> {
        let allowed = sched_getaffinity(None).context("cannot see which CPUs this program may use")?;
        for cpu in [edge_cpu, load_cpu] {
            if cpu >= CpuSet::MAX_CPU || !allowed.is_set(cpu) {
                bail!("this program may not use CPU {cpu}: the bench needs two CPUs, see --edge-cpu and --load-cpu");
            }
        }
        netns::pin(load_cpu)?;
        raise_open_files()?;
        let programs = match programs {
            Some(directory) => directory.to_owned(),
            None => std::env::current_exe()?.parent().context("this program is nowhere")?.to_owned(),
        };
        let directory = tempfile::Builder::new().prefix("bench-l7-").tempdir()?;
        // Workers that run as another user read what is in it.
        std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let pki = Pki::new(directory.path())?;
        let origin = Origin::start(directory.path(), load_cpu)?;
        Ok(Self { directory, pki, origin, edge_cpu, programs })
    }
}

fn raise_open_files() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < OPEN_FILES) {
        bail!("only {:?} open files are allowed, {OPEN_FILES} are needed: ulimit -Hn {OPEN_FILES}", limit.maximum);
    }
    limit.current = Some(OPEN_FILES.max(limit.current.unwrap_or(OPEN_FILES)));
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}
