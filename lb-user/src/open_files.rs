//! The limit of open files: raised at start to what the system lets this process have. Workers inherit it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raise the soft limit to the hard one. Many programs count on a low soft limit (select(2)); neither ours nor the
/// worker does.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, limit = ?limit.current, "the limit of open files stays as it is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_may_be() {
        raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
