//! Where workers stand: which worker has which slot of the flow hash, and which CPU.

use aya::Ebpf;
use aya::maps::{Array, CpuMap, MapData, MapError};
use lb_common::abi::{self, MAX_WORKERS, NO_WORKER, WORKER_SLOT_COUNT};

use super::error::failed;
use super::maps::take;
use crate::datapath::{DatapathError, Worker, slots};

/// Frames that wait for a CPU at the most; redirects beyond are dropped. As many as a NIC's ring holds at its largest.
const CPU_QUEUE: u32 = 4096;

/// Handles of the maps, and what they are to hold.
pub(in crate::datapath) struct Placement {
    slots: Array<MapData, u32>,
    workers: Array<MapData, u32>,
    of_cpu: Array<MapData, u32>,
    cpus: CpuMap<MapData>,
    wanted: Rows,
    /// What they held before this edge, where that still serves.
    before: Option<Rows>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rows {
    /// By slot, the worker.
    slots: Vec<u32>,
    /// By worker, its CPU.
    workers: Vec<u32>,
    /// By CPU, the worker.
    of_cpu: Vec<u32>,
}

impl Placement {
    /// Take the maps out of the loaded object. Maps that serve already (`inherited`) are read, and written by
    /// [`Self::place`] alone; a slot moves only where its worker is gone or has more than its share.
    pub(super) fn take(ebpf: &mut Ebpf, workers: &[Worker], cpus: u32, inherited: bool) -> Result<Self, DatapathError> {
        let slots = take(ebpf, abi::WORKER_SLOTS)?;
        let (rows, of_cpu) = (take(ebpf, abi::WORKERS)?, take(ebpf, abi::CPU_WORKER)?);
        let before = match inherited {
            true => Some(Rows { slots: all(&slots)?, workers: all(&rows)?, of_cpu: all(&of_cpu)? }),
            false => None,
        };
        let wanted = Rows::of(workers, cpus, before.as_ref());
        Ok(Self { slots, workers: rows, of_cpu, cpus: take(ebpf, abi::CPUS)?, wanted, before })
    }

    /// By slot, the worker.
    pub(super) fn slots(&self) -> &[u32] {
        &self.wanted.slots
    }

    /// Make the maps what they are to be.
    pub(super) fn place(&mut self) -> Result<(), DatapathError> {
        let unwritten = |e: MapError| failed("place the workers in the kernel's tables", &e);
        for cpu in (0..).zip(&self.wanted.of_cpu).filter(|(_, worker)| **worker != NO_WORKER).map(|(cpu, _)| cpu) {
            // Written again, the frames that wait for it would be lost.
            if self.before.is_none() || self.cpus.get(cpu, 0).is_err() {
                let made = self.cpus.set(cpu, CPU_QUEUE, None, 0);
                made.map_err(|e| failed(format!("make CPU {cpu} a redirect target"), &e))?;
            }
        }
        let (wanted, before) = (self.wanted.clone(), self.before.clone());
        self.write(&wanted, before.as_ref()).map_err(unwritten)
    }

    /// What they held before this edge.
    pub(super) fn give_back(&mut self) {
        let Some(before) = self.before.clone() else { return };
        let wanted = self.wanted.clone();
        if let Err(e) = self.write(&before, Some(&wanted)) {
            tracing::error!(error = %e, "the place of workers in the kernel's tables could not be put back");
        }
    }

    /// Somebody else wrote meanwhile.
    pub(super) fn place_again(&mut self) -> Result<(), DatapathError> {
        let wanted = self.wanted.clone();
        self.write(&wanted, None).map_err(|e| failed("place the workers in the kernel's tables", &e))
    }

    /// A worker's CPU before the slots that lead to it.
    fn write(&mut self, rows: &Rows, from: Option<&Rows>) -> Result<(), MapError> {
        let from = |pick: fn(&Rows) -> &Vec<u32>| from.map_or(&[][..], |from| pick(from));
        write(&mut self.workers, &rows.workers, from(|rows| &rows.workers))?;
        write(&mut self.of_cpu, &rows.of_cpu, from(|rows| &rows.of_cpu))?;
        write(&mut self.slots, &rows.slots, from(|rows| &rows.slots))
    }
}

impl Rows {
    fn of(workers: &[Worker], cpus: u32, before: Option<&Self>) -> Self {
        let indices: Vec<u32> = workers.iter().map(|worker| worker.index).collect();
        let nobody = vec![NO_WORKER; WORKER_SLOT_COUNT as usize];
        let mut rows = vec![0; MAX_WORKERS as usize];
        for worker in workers {
            if let Some(row) = rows.get_mut(worker.index as usize) {
                *row = worker.cpu;
            }
        }
        let of_cpu = |cpu| workers.iter().find(|worker| worker.cpu == cpu).map_or(NO_WORKER, |worker| worker.index);
        Self {
            slots: slots::assign(before.map_or(&nobody, |before| &before.slots), &indices),
            workers: rows,
            of_cpu: (0..cpus).map(of_cpu).collect(),
        }
    }
}

fn all(map: &Array<MapData, u32>) -> Result<Vec<u32>, DatapathError> {
    map.iter().collect::<Result<_, _>>().map_err(|e| failed("read where the workers stand", &e))
}

fn write(map: &mut Array<MapData, u32>, rows: &[u32], from: &[u32]) -> Result<(), MapError> {
    for (index, row) in (0..).zip(rows) {
        if from.get(index as usize) != Some(row) {
            map.set(index, row, 0)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stays_keeps_its_slots() {
        let worker = |index, cpu| Worker { index, cpu };
        let one = Rows::of(&[worker(0, 2), worker(1, 3)], 4, None);
        assert_eq!(one.of_cpu, [NO_WORKER, NO_WORKER, 0, 1]);
        assert_eq!((one.workers[0], one.workers[1]), (2, 3));
        assert_eq!(Rows::of(&[worker(0, 2), worker(1, 3)], 4, Some(&one)), one);
        let two = Rows::of(&[worker(0, 2), worker(1, 3), worker(2, 1)], 4, Some(&one));
        let moved = one.slots.iter().zip(&two.slots).filter(|(a, b)| a != b);
        assert!(moved.clone().count() <= WORKER_SLOT_COUNT as usize / 3 + 1 && moved.clone().all(|(_, to)| *to == 2));
    }
}
