//! The shield's tables: limits of services and prefixes that are denied or allowed.

use aya::Ebpf;

use super::settings::Settings;
use crate::datapath::{DatapathError, Desired, ShieldState};

/// Handles of the maps, and what they hold.
pub(in crate::datapath) struct Shield {}

impl Shield {
    /// Take the maps out of the loaded object.
    pub(in crate::datapath) fn take(_ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        Ok(Self {})
    }

    /// Make the tables what `desired` asks for. On an error nothing has changed.
    pub(in crate::datapath) fn apply(
        &mut self,
        _settings: &mut Settings,
        _desired: &Desired,
    ) -> Result<(), DatapathError> {
        Ok(())
    }

    /// Go back to before the last [`Self::apply`].
    pub(in crate::datapath) fn revert(&mut self, _settings: &mut Settings) {}

    /// Prefixes that have run out are removed; SYN cookies are asked of the kernel while there is a flood.
    pub(in crate::datapath) fn tick(&mut self, _settings: &mut Settings) {}

    /// As it is.
    pub(in crate::datapath) fn state(&self) -> Result<ShieldState, DatapathError> {
        Ok(ShieldState::default())
    }

    /// Undo what was changed outside of the maps.
    pub(in crate::datapath) fn close(&mut self) {}
}
