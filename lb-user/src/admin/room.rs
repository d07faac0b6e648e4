//! Places at a socket: a bounded number, some of them kept for the operator. Who asks nothing gives way to who comes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Who has been answered is left in peace for so long: the answer is still on its way.
const PAUSE: Duration = Duration::from_secs(1);

/// The places of one socket. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Room(Arc<Places>);

#[derive(Debug)]
struct Places {
    most: usize,
    /// For root and the daemon's own user alone.
    kept: usize,
    own: u32,
    taken: Mutex<Vec<Place>>,
    next: AtomicU64,
    counts: [AtomicU64; 2],
}

#[derive(Debug)]
struct Place {
    id: u64,
    operator: bool,
    /// Requests that are not answered.
    asking: u32,
    /// Since when there are none, and whether there were any.
    idle: (Instant, bool),
    wanted: Arc<Notify>,
}

/// A place that is taken; free again when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    room: Room,
    id: u64,
    wanted: Arc<Notify>,
}

/// A request that is being answered.
pub(super) struct Asking {
    room: Room,
    id: u64,
}

impl Room {
    /// So many places; a quarter of them, at least one, is for the operator.
    pub fn new(most: usize) -> Self {
        let places = Places {
            most,
            kept: (most / 4).max(1),
            own: rustix::process::geteuid().as_raw(),
            taken: Mutex::default(),
            next: AtomicU64::new(0),
            counts: Default::default(),
        };
        Self(Arc::new(places))
    }

    /// Places that are taken.
    pub fn taken(&self) -> u64 {
        self.places().len() as u64
    }

    /// Connections that were closed to make room, and that found none.
    pub fn turned_away(&self) -> [u64; 2] {
        self.0.counts.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// A place for a process of this user; none: there is none, and nobody who has one is idle.
    pub(super) fn admit(&self, uid: Option<u32>) -> Option<Seat> {
        let operator = uid.is_some_and(|uid| uid == 0 || uid == self.0.own);
        let mut places = self.places();
        let others = places.iter().filter(|place| !place.operator).count();
        let full_for_others = !operator && others + self.0.kept >= self.0.most;
        if full_for_others || places.len() >= self.0.most {
            let now = Instant::now();
            let may = |place: &&Place| (operator || !place.operator) && place.gives_way(now);
            let Some(oldest) = places.iter().filter(may).min_by_key(|place| (place.idle.0, place.id)).map(|p| p.id)
            else {
                self.0.counts[1].fetch_add(1, Ordering::Relaxed);
                return None;
            };
            if let Some(at) = places.iter().position(|place| place.id == oldest) {
                self.0.counts[0].fetch_add(1, Ordering::Relaxed);
                places.swap_remove(at).wanted.notify_one();
            }
        }
        let (id, wanted) = (self.0.next.fetch_add(1, Ordering::Relaxed), Arc::new(Notify::new()));
        let idle = (Instant::now(), false);
        places.push(Place { id, operator, asking: 0, idle, wanted: Arc::clone(&wanted) });
        Some(Seat { room: self.clone(), id, wanted })
    }

    fn places(&self) -> MutexGuard<'_, Vec<Place>> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, id: u64, change: impl FnOnce(&mut Place)) {
        if let Some(place) = self.places().iter_mut().find(|place| place.id == id) {
            change(place);
        }
    }
}

impl Place {
    fn gives_way(&self, now: Instant) -> bool {
        let (since, asked) = self.idle;
        self.asking == 0 && (!asked || now.duration_since(since) >= PAUSE)
    }
}

impl Seat {
    /// Mark a request as being answered.
    pub(super) fn asking(&self) -> Asking {
        self.room.place(self.id, |place| place.asking += 1);
        Asking { room: self.room.clone(), id: self.id }
    }

    /// Ends when the place was given to another.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.room.place(self.id, |place| {
            place.asking -= 1;
            place.idle = (Instant::now(), true);
        });
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.places().retain(|place| place.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Option<u32> = Some(0);
    const OTHER: Option<u32> = Some(65_533);

    #[tokio::test(start_paused = true)]
    async fn the_oldest_idle_one_gives_way_and_who_asks_stays() {
        let room = Room::new(4);
        let seats: Vec<Seat> = (0..4).map(|_| room.admit(ROOT).unwrap()).collect();
        let asking = seats[0].asking();
        let fifth = room.admit(ROOT).unwrap();
        seats[1].wanted().await;
        assert_eq!((room.taken(), room.turned_away()), (4, [1, 0]));
        let all: Vec<Asking> = seats[2..].iter().chain([&fifth]).map(Seat::asking).collect();
        assert!(room.admit(ROOT).is_none());
        assert_eq!(room.turned_away(), [1, 1]);
        drop(asking);
        assert!(room.admit(ROOT).is_none(), "its answer is on its way");
        tokio::time::advance(PAUSE).await;
        assert!(room.admit(ROOT).is_some());
        drop((all, fifth));
        drop(seats);
        assert_eq!(room.taken(), 0);
    }

    #[tokio::test]
    async fn a_place_is_kept_for_the_operator() {
        let room = Room::new(4);
        let others: Vec<Seat> = (0..3).map(|_| room.admit(OTHER).unwrap()).collect();
        let asking: Vec<Asking> = others.iter().map(Seat::asking).collect();
        assert!(room.admit(OTHER).is_none() && room.admit(None).is_none());
        let operator = room.admit(ROOT).expect("the fourth is for root");
        drop(asking);
        // The operator is idle, and stays all the same.
        assert!(room.admit(OTHER).is_none());
        assert_eq!(room.taken(), 4);
        drop(operator);
    }
}
