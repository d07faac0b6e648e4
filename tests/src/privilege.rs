//! What a test of the kernel half needs of the machine, so that one that cannot run says what is missing.

use std::sync::OnceLock;

use lb_user::datapath::probe::Probe;
use rustix::thread::CpuSet;

/// What is missing to load BPF programs here; none: nothing.
pub fn missing_for_bpf() -> Option<&'static str> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    MISSING.get_or_init(|| Probe::open(false, &[], &Default::default()).err().map(|e| e.to_string())).as_deref()
}

/// CPUs that this process may run on, as it was when this was first asked: before [`pin_to`].
pub fn cpus() -> &'static [u32] {
    static CPUS: OnceLock<Vec<u32>> = OnceLock::new();
    CPUS.get_or_init(|| {
        let set = rustix::thread::sched_getaffinity(None).unwrap_or_default();
        (0..CpuSet::MAX_CPU as u32).filter(|cpu| set.is_set(*cpu as usize)).collect()
    })
}

/// Keep this thread on one CPU.
pub fn pin_to(cpu: u32) -> std::io::Result<()> {
    cpus();
    let mut set = CpuSet::new();
    set.set(cpu as usize);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}
