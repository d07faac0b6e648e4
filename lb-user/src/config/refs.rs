//! Names that other tables point to: pools and certificates.

use super::problem::{Problem, Problems, nearest};
use super::section::At;

/// The names of one kind, and which of them somebody used.
pub(super) struct Refs {
    kind: &'static str,
    names: Vec<At<String>>,
    used: Vec<bool>,
}

impl Refs {
    pub(super) fn new(kind: &'static str, names: Vec<At<String>>) -> Self {
        let used = vec![false; names.len()];
        Self { kind, names, used }
    }

    /// The place of a name in its list.
    pub(super) fn resolve(&mut self, at: &At<&str>, p: &mut Problems) -> Option<usize> {
        if let Some(index) = self.names.iter().position(|name| name.value == at.value) {
            self.used[index] = true;
            return Some(index);
        }
        let help = match nearest(at.value, self.names.iter().map(|name| name.value.as_str())) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None if self.names.is_empty() => format!("add a table [{}.{}]", self.kind, at.value),
            None => {
                let all: Vec<_> = self.names.iter().take(20).map(|name| name.value.as_str()).collect();
                format!("add a table [{}.{}], or use one of: {}", self.kind, at.value, all.join(", "))
            }
        };
        p.push(Problem::error(at.span.clone(), format!("there is no {} {:?}", self.kind, at.value)).help(help));
        None
    }

    /// Tell of names that nobody used. Beside an error it is likely that somebody meant to.
    pub(super) fn finish(self, p: &mut Problems) {
        if p.has_errors() {
            return;
        }
        for (name, used) in self.names.into_iter().zip(self.used) {
            if !used {
                p.push(
                    Problem::warning(name.span, format!("{} {:?} is used by no service", self.kind, name.value))
                        .help("remove it, or name it in a service"),
                );
            }
        }
    }
}
