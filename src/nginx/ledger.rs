//! How many programs run for each location, over all workers: one table in shared memory.
//!
//! Each worker counts in a slot of its own, so that a worker that is killed takes only its own counts with it: they are no
//! longer added up, and cleared by the next worker that takes the slot. The table keeps its size and place over a reload;
//! locations are found by a key that a reload does not change.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::ffi;
use super::guard::guard;
use super::module;

/// Workers at one time, those that are leaving included.
const SLOTS: usize = 128;

/// Locations with programs that are told apart; beyond it they share the last counter.
const LOCATIONS: usize = 1024;

#[repr(C)]
struct Slot {
    /// The worker: its pid, and in the upper half when it started, because a pid may be used again. 0 for none.
    worker: AtomicU64,
    running: [AtomicU32; LOCATIONS],
}

#[repr(C)]
struct Table {
    keys: [AtomicU64; LOCATIONS],
    slots: [Slot; SLOTS],
}

/// A counted program; not counted any more when dropped.
pub struct Place {
    slot: &'static Slot,
    location: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.slot.running[self.location].fetch_sub(1, Relaxed);
    }
}

/// One worker's view of the table.
#[derive(Clone, Copy)]
pub struct Ledger {
    table: &'static Table,
    slot: &'static Slot,
}

/// Adds the shared zone to the configuration that is being read. `None` when nginx refuses.
pub fn add_zone(cf: *mut ffi::ngx_conf_t) -> Option<NonNull<ffi::ngx_shm_zone_t>> {
    const NAME: &[u8] = b"ws_exec_programs";
    // SAFETY: cf is valid while a directive is read; nginx keeps the name, which is static.
    unsafe {
        let mut name = ffi::ngx_str_t { len: NAME.len(), data: NAME.as_ptr().cast_mut() };
        // The slab allocator rounds the table up to pages and keeps its own records beside them.
        let size = size_of::<Table>().next_multiple_of(4096) + (64 << 10);
        let zone = NonNull::new(ffi::ngx_shared_memory_add(cf, &raw mut name, size, module::pointer().cast()))?;
        (*zone.as_ptr()).init = Some(init_zone);
        Some(zone)
    }
}

/// Makes the table, or finds that of the configuration before.
unsafe extern "C" fn init_zone(zone: *mut ffi::ngx_shm_zone_t, _: *mut c_void) -> ffi::ngx_int_t {
    guard(ffi::NGX_ERROR as isize, || {
        // SAFETY: nginx has mapped the zone and put a slab pool at its beginning; only the master is here. The pool's
        // data is null in a new zone and the table in one that was kept.
        unsafe {
            let pool = (*zone).shm.addr.cast::<ffi::ngx_slab_pool_t>();
            if (*pool).data.is_null() {
                let table = ffi::ngx_slab_calloc(pool, size_of::<Table>());
                if table.is_null() {
                    return ffi::NGX_ERROR as isize;
                }
                (*pool).data = table;
            }
        }
        ffi::NGX_OK as isize
    })
}

impl Ledger {
    /// Takes a slot for this process. `None` when all belong to living workers.
    pub fn claim(zone: NonNull<ffi::ngx_shm_zone_t>) -> Option<Self> {
        // SAFETY: init_zone has put the table there, zeroed; it is mapped for the life of the process, aligned by the
        // slab allocator, and made of atomics only.
        let table: &'static Table = unsafe {
            let pool = (*zone.as_ptr()).shm.addr.cast::<ffi::ngx_slab_pool_t>();
            (*pool).data.cast::<Table>().as_ref()?
        };
        let own = identity(std::process::id())?;
        let slot = table.slots.iter().find(|slot| {
            let occupant = slot.worker.load(Relaxed);
            let free = occupant == 0 || occupant == own || !is_alive(occupant);
            free && slot.worker.compare_exchange(occupant, own, Relaxed, Relaxed).is_ok()
        })?;
        for count in &slot.running {
            count.store(0, Relaxed);
        }
        Some(Ledger { table, slot })
    }

    /// Gives the slot back.
    pub fn release(self) {
        self.slot.worker.store(0, Relaxed);
    }

    /// Counts one more program of a location; `None` when `most` run already (0 for no limit).
    pub fn admit(self, key: u64, most: u64) -> Option<Place> {
        let location = self.location(key);
        // Counted before it is compared: of two workers that want the last place none gets it, or one, never both.
        self.slot.running[location].fetch_add(1, Relaxed);
        let place = Place { slot: self.slot, location };
        let fits = |total: u64| most == 0 || total <= most;
        let admitted = fits(self.total(location, |_| true)) || fits(self.total(location, is_alive));
        admitted.then_some(place)
    }

    fn total(self, location: usize, counts: impl Fn(u64) -> bool) -> u64 {
        let mut total = 0;
        for slot in &self.table.slots {
            let running = slot.running[location].load(Relaxed);
            let occupant = slot.worker.load(Relaxed);
            if running != 0 && occupant != 0 && counts(occupant) {
                total += u64::from(running);
            }
        }
        total
    }

    fn location(self, key: u64) -> usize {
        // 0 marks a free place.
        let key = key.max(1);
        for step in 0..LOCATIONS {
            let place = (key as usize).wrapping_add(step) % LOCATIONS;
            let occupant = &self.table.keys[place];
            match occupant.compare_exchange(0, key, Relaxed, Relaxed) {
                Ok(_) => return place,
                Err(present) if present == key => return place,
                Err(_) => {}
            }
        }
        LOCATIONS - 1
    }
}

fn is_alive(occupant: u64) -> bool {
    identity(occupant as u32) == Some(occupant)
}

/// What tells a process from every other one, also of the past; `None` if there is no such process.
fn identity(pid: u32) -> Option<u64> {
    start_time(pid).map(|ticks| ticks << 32 | u64::from(pid))
}

/// When a process started, in ticks since boot; `None` if there is none.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may contain anything; field 22 is the start time.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}
