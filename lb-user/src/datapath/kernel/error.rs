//! From what aya, netlink and the system say to a [`DatapathError`].

use std::error::Error;
use std::fmt::Write as _;
use std::io;

use aya::programs::ProgramError;
use rustix::io::Errno;

use crate::datapath::DatapathError;

/// Lines of a verifier's log that are shown; the last ones name the refusal.
const VERIFIER_LINES: usize = 6;

/// `what` failed with `error`: a missing privilege where that is at the root, else the kernel's words.
pub(in crate::datapath) fn failed(what: impl Into<String>, error: &(dyn Error + 'static)) -> DatapathError {
    let what = what.into();
    let mut why = String::new();
    let mut cause = Some(error);
    let mut refused_by_verifier = false;
    while let Some(error) = cause {
        refused_by_verifier |= matches!(error.downcast_ref(), Some(ProgramError::LoadError { .. }));
        if let Some(io) = error.downcast_ref::<io::Error>()
            && is_privilege(io, refused_by_verifier)
        {
            let source = io.raw_os_error().map_or_else(|| io.kind().into(), io::Error::from_raw_os_error);
            return DatapathError::Permission { what, source };
        }
        let text = last_lines(&error.to_string());
        // Transparent errors say the same as their cause.
        if !why.ends_with(&text) {
            let _ = write!(why, "{}{text}", if why.is_empty() { "" } else { ": " });
        }
        cause = error.source();
    }
    DatapathError::Kernel { what, why }
}

/// The verifier, too, says EACCES; what BPF asks of the caller is EPERM then.
fn is_privilege(error: &io::Error, refused_by_verifier: bool) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    if refused_by_verifier {
        return errno == Some(Errno::PERM);
    }
    error.kind() == io::ErrorKind::PermissionDenied
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.len() <= VERIFIER_LINES + 1 {
        return lines.join("; ");
    }
    let first = lines[0];
    format!("{first} [...] {}", lines[lines.len() - VERIFIER_LINES..].join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_missing_privilege_is_found_at_the_root() {
        let error = failed("load", &Outer(io::Error::from_raw_os_error(1)));
        assert!(matches!(error, DatapathError::Permission { ref what, .. } if what == "load"));
    }

    #[test]
    fn other_causes_are_told_in_order() {
        let error = failed("load", &Outer(io::Error::other("inner")));
        assert!(matches!(error, DatapathError::Kernel { ref why, .. } if why == "outer: inner"), "{error}");
    }

    #[test]
    fn of_a_long_log_the_end_is_kept() {
        let log: Vec<String> = (0..100).map(|i| format!("line {i}")).collect();
        let text = last_lines(&log.join("\n"));
        assert!(text.starts_with("line 0 [...] line 94") && text.ends_with("line 99"), "{text}");
    }
}
