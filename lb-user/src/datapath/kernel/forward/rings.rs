//! Rings in the kernel, and their pins: a ring in a map of maps can be read by its number with all privileges alone, by its
//! pin with the edge's.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use aya::maps::MapData;
use lb_common::select::Slot;

use super::tables::Tables;
use crate::datapath::DatapathError;
use crate::datapath::kernel::bpf;
use crate::datapath::kernel::error::failed;

impl Tables {
    /// Put a ring in place. Its pin stands beside that of the one before until then, so that whatever is in place is
    /// pinned, also when this ends in between.
    pub(super) fn put(&mut self, index: u32, ring: &MapData) -> Result<(), DatapathError> {
        if let Some(directory) = &self.pins {
            let next = next(directory, index);
            let _ = std::fs::remove_file(&next);
            ring.pin(&next).map_err(|e| failed("pin a ring", &e))?;
        }
        self.rings.set(index, ring, 0).map_err(|e| failed("put a ring in place", &e))?;
        if let Some(directory) = &self.pins {
            let put = std::fs::rename(next(directory, index), standing(directory, index));
            put.map_err(|e| failed("put a ring's pin in place", &e))?;
        }
        Ok(())
    }

    /// The ring is none of a service any more.
    pub(super) fn unpin(&self, index: u32) {
        if let Some(directory) = &self.pins {
            // One that was never pinned is as good.
            let _ = std::fs::remove_file(standing(directory, index));
        }
    }

    /// The slots of a ring that stands; none where there is no ring, or where its pin is not to be had.
    pub(super) fn slots(&self, index: u32) -> Option<Vec<Slot>> {
        let directory = self.pins.as_ref()?;
        let id = bpf::inner_id(self.rings_fd.as_fd(), index).ok()?;
        let pinned = [standing(directory, index), next(directory, index)];
        let ring = pinned.iter().find_map(|pin| MapData::from_pin(pin).ok().filter(|map| is(map, id)))?;
        let words: Vec<u32> = bpf::rows(ring.fd().as_fd(), ring.info().ok()?.max_entries() as usize).ok()?;
        match words[..] {
            // What stands where a service has no address of a family.
            [0] => Some(Vec::new()),
            _ => Some(words.into_iter().map(Slot::from_word).collect()),
        }
    }
}

fn is(map: &MapData, id: u32) -> bool {
    map.info().is_ok_and(|info| info.id() == id)
}

fn standing(directory: &Path, index: u32) -> PathBuf {
    directory.join(format!("ring_{index}"))
}

fn next(directory: &Path, index: u32) -> PathBuf {
    directory.join(format!("next_ring_{index}"))
}
