//! The shield of an edge that serves already, gone on with.

use std::collections::BTreeMap;
use std::sync::Arc;

use lb_common::abi::ShieldValue;
use zerocopy::transmute;

use super::rules::Now;
use super::sysctl::SynCookiesSetting;
use super::{Content, Shield, ShieldBytes};
use crate::datapath::DatapathError;
use crate::datapath::kernel::error::failed;
use crate::datapath::kernel::settings::Settings;
use crate::datapath::kernel::sysctl::Noted;

impl Shield {
    /// Take for in force what the tables hold of services of these numbers, and of prefixes.
    pub(in crate::datapath::kernel) fn inherit(
        &mut self,
        ids: impl Iterator<Item = u32>,
        noted: Option<&Noted>,
    ) -> Result<(), DatapathError> {
        self.in_force = self.standing(ids)?;
        self.setting = SynCookiesSetting::inherited(noted);
        Ok(())
    }

    /// For the edge after this one: how the kernel's cookies were set.
    pub(in crate::datapath::kernel) fn noted(&self) -> Option<Noted> {
        self.setting.noted()
    }

    /// Somebody else wrote meanwhile: make the tables what is in force. `ids` are the services that it may have limited.
    pub(in crate::datapath::kernel) fn write_again(
        &mut self,
        settings: &mut Settings,
        ids: impl Iterator<Item = u32>,
    ) -> Result<(), DatapathError> {
        let ours = self.in_force.clone();
        self.in_force = self.standing(ids)?;
        self.write(settings, ours, Now::read())
    }

    fn standing(&mut self, ids: impl Iterator<Item = u32>) -> Result<Content, DatapathError> {
        let now = Now::read();
        let mut limits = BTreeMap::new();
        for id in ids {
            let row: ShieldBytes = self.shield.get(&id, 0).map_err(|e| failed("read SHIELD", &e))?;
            let value: ShieldValue = transmute!(row);
            if value != ShieldValue::default() {
                limits.insert(id, value);
            }
        }
        let prefixes = Arc::new(self.tries.read(now)?);
        Ok(Content { limits, ..Content::of_prefixes(&prefixes, now.time) })
    }
}
