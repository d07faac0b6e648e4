//! Which backends of a pool take part in the choice: priorities, backups, panic. Pure.

use crate::api::{BackendRole, BackendState, Balancing};

/// What counts of a backend.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) state: BackendState,
    pub(super) role: BackendRole,
    /// Left out because of how it answered.
    pub(super) out: bool,
}

impl Standing {
    fn serves(&self) -> bool {
        self.state == BackendState::Up && !self.out
    }

    /// Whether an operator would have it serve.
    fn meant(&self) -> bool {
        matches!(self.state, BackendState::Up | BackendState::Down)
    }
}

/// Places of those that take part.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) places: Vec<usize>,
    /// Too few could: all do, whatever is known of them.
    pub(super) panic: bool,
}

/// Who takes part. Priorities join from the lowest number up until at least `min_up` take part; backups where nobody
/// does; all where fewer than `panic_percent` could.
pub(super) fn part(all: &[Standing], rules: &Balancing) -> Part {
    let places = |which: &dyn Fn(&Standing) -> bool| -> Vec<usize> {
        all.iter().enumerate().filter(|(_, one)| which(one)).map(|(place, _)| place).collect()
    };
    let (meant, serve) = (places(&Standing::meant), places(&Standing::serves));
    if serve.len() * 100 < meant.len() * usize::from(rules.panic_percent) {
        return Part { places: meant, panic: true };
    }
    let mut priorities: Vec<u8> =
        serve.iter().filter(|p| !all[**p].role.backup).map(|p| all[*p].role.priority).collect();
    priorities.sort_unstable();
    let Some(last) = priorities.get((rules.min_up.max(1) as usize - 1).min(priorities.len().saturating_sub(1))) else {
        // None but backups.
        return Part { places: serve, panic: false };
    };
    let joins = |one: &Standing| one.serves() && !one.role.backup && one.role.priority <= *last;
    Part { places: places(&joins), panic: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(state: BackendState, priority: u8, backup: bool, out: bool) -> Standing {
        Standing { state, role: BackendRole { backup, priority, ..BackendRole::default() }, out }
    }

    #[test]
    fn the_next_are_taken_when_those_before_are_too_few() {
        use BackendState::*;
        let rules = |min_up, panic_percent| Balancing { min_up, panic_percent, ..Balancing::default() };
        let up = |priority| one(Up, priority, false, false);
        let backup = one(Up, 0, true, false);
        let (down, out) = (one(Down, 0, false, false), one(Up, 0, false, true));
        let (draining, disabled) = (one(Draining, 0, false, false), one(Disabled, 0, false, false));
        for (what, all, rules, places, panic) in [
            ("the first priority", &[up(1), up(0), up(0), backup][..], rules(0, 0), &[1, 2][..], false),
            ("two of the first are wanted", &[up(1), up(0), down, backup], rules(2, 0), &[0, 1], false),
            ("more are wanted than are", &[up(1), up(0), up(9)], rules(7, 0), &[0, 1, 2], false),
            ("the next", &[up(1), down, out, backup], rules(0, 0), &[0], false),
            ("only a backup", &[down, out, backup], rules(0, 0), &[2], false),
            ("nobody", &[down, out, draining], rules(0, 0), &[], false),
            ("panic", &[down, out, up(0), draining, disabled], rules(0, 50), &[0, 1, 2], true),
            ("no panic at the bound", &[down, up(0)], rules(0, 50), &[1], false),
            ("all down", &[down, down, disabled], rules(0, 1), &[0, 1], true),
        ] {
            assert_eq!(part(all, &rules), Part { places: places.to_vec(), panic }, "{what}");
        }
    }

    proptest! {
        #[test]
        fn where_one_may_serve_one_does_and_none_that_an_operator_took_out(
            given in prop::collection::vec((0usize..4, 0u8..4, any::<bool>(), any::<bool>()), 0..12),
            min_up in 0u32..5,
            panic_percent in 0u8..=100,
        ) {
            use BackendState::*;
            let all: Vec<_> = given.iter().map(|(s, p, b, o)| one([Up, Down, Draining, Disabled][*s], *p, *b, *o)).collect();
            let part = part(&all, &Balancing { min_up, panic_percent, ..Balancing::default() });
            prop_assert!(part.places.iter().all(|p| all[*p].meant()));
            prop_assert!(part.panic || part.places.iter().all(|p| all[*p].serves()));
            prop_assert!(!part.places.is_empty() || !all.iter().any(Standing::serves));
        }
    }
}
