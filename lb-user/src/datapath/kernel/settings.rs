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
}

impl Settings {
    /// Take the map out of the object and write `config`.
    pub(in crate::datapath) fn write(ebpf: &mut Ebpf, config: Config) -> Result<Self, DatapathError> {
        let map = ebpf.take_map(abi::CONFIG).ok_or_else(|| absent("map", abi::CONFIG))?;
        let map = Array::try_from(map).map_err(|e| failed("use the map CONFIG", &e))?;
        let mut settings = Self { map, config };
        settings.store()?;
        Ok(settings)
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

    fn store(&mut self) -> Result<(), DatapathError> {
        let value: [u8; size_of::<Config>()] = transmute!(self.config);
        self.map.set(0, value, 0).map_err(|e| failed("write CONFIG", &e))
    }
}
