//! The one element of `CONFIG`: what holds for every packet. Parts of it change while the edge runs.

use aya::Ebpf;
use aya::maps::{Array, MapData};
use lb_common::abi::{self, Config};
use zerocopy::transmute;

use super::error::failed;
use super::load::absent;
use crate::datapath::DatapathError;

/// The config as the kernel has it.
pub(in crate::datapath) struct Settings {
    map: Array<MapData, [u8; size_of::<Config>()]>,
    config: Config,
    /// What stood there before this edge.
    before: Option<Config>,
}

impl Settings {
    /// Take the map out of the object and write `config`.
    pub(in crate::datapath) fn write(ebpf: &mut Ebpf, config: Config) -> Result<Self, DatapathError> {
        let mut settings = Self { map: map(ebpf)?, config, before: None };
        settings.store()?;
        Ok(settings)
    }

    /// Take the map of an edge that serves out of the object.
    pub(super) fn read(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        let map = map(ebpf)?;
        let value = map.get(&0, 0).map_err(|e| failed("read CONFIG", &e))?;
        Ok(Self { map, config: transmute!(value), before: None })
    }

    /// As the kernel has it.
    pub(super) fn config(&self) -> Config {
        self.config
    }

    /// Have `config` in place of what another edge wrote.
    pub(super) fn replace(&mut self, config: Config) -> Result<(), DatapathError> {
        self.before = Some(std::mem::replace(&mut self.config, config));
        self.store()
    }

    /// What the other edge wrote.
    pub(super) fn give_back(&mut self) {
        let Some(before) = self.before.take() else { return };
        self.config = before;
        if let Err(e) = self.store() {
            tracing::error!(error = %e, "the settings of the edge before could not be put back");
        }
    }

    /// Turn `bits` of the features on or off.
    pub(in crate::datapath) fn set_features(&mut self, bits: u32, on: bool) -> Result<(), DatapathError> {
        let features = if on { self.config.features | bits } else { self.config.features & !bits };
        if features == self.config.features {
            return Ok(());
        }
        self.config.features = features;
        self.store()
    }

    /// Write what is known here.
    pub(super) fn store(&mut self) -> Result<(), DatapathError> {
        let value: [u8; size_of::<Config>()] = transmute!(self.config);
        self.map.set(0, value, 0).map_err(|e| failed("write CONFIG", &e))
    }
}

fn map(ebpf: &mut Ebpf) -> Result<Array<MapData, [u8; size_of::<Config>()]>, DatapathError> {
    let map = ebpf.take_map(abi::CONFIG).ok_or_else(|| absent("map", abi::CONFIG))?;
    Array::try_from(map).map_err(|e| failed("use the map CONFIG", &e))
}
