//! What the workers count for each location: one table in shared memory.
//!
//! Each worker counts in a slot of its own, which nobody else writes. Totals stay in the slot when its worker has gone, and the
//! next worker that takes the slot counts on from there: a total is the sum over all slots, and a worker that is killed at any
//! instruction takes nothing of it away. What there is at this moment (sessions, programs) counts only while the worker of
//! the slot lives, and begins at nothing with the next one.
//!
//! The table keeps its size and place over a reload. The locations of each configuration are entered by the process that
//! reads it, before there are workers; they are found by a key that a reload does not change.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use super::ffi;
use super::guard::guard;
use super::main_settings::MainSettings;
use super::module;
use crate::status::{Closes, Label, Location, Snapshot};

/// Workers at one time, those that are leaving included.
const SLOTS: usize = 128;

/// Locations that are told apart; beyond it they share the last place.
const LOCATIONS: usize = 1024;

/// What one worker has counted for one location. Only that worker writes it.
#[repr(C)]
#[derive(Debug)]
struct Counters {
    /// Programs that run.
    running: AtomicU32,
    /// Sessions that are open.
    open: AtomicU32,
    opened: AtomicU64,
    messages_in: AtomicU64,
    messages_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    failed: AtomicU64,
    closes: [AtomicU64; Closes::KINDS],
}

#[repr(C)]
struct Slot {
    /// The worker: its pid, and in the upper half when it started, because a pid may be used again. 0 for none.
    worker: AtomicU64,
    locations: [Counters; LOCATIONS],
}

/// One location. Written once, the key last.
#[repr(C)]
struct Entry {
    /// 0 for a free place.
    key: AtomicU64,
    label: [AtomicU64; Label::WORDS],
}

#[repr(C)]
struct Table {
    entries: [Entry; LOCATIONS],
    /// The slots that were ever used are the first ones.
    used: AtomicU64,
    slots: [Slot; SLOTS],
}

/// Adds to a counter that nobody else writes: cheaper than an addition that others might meet.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
}

/// A counted program; not counted any more when dropped.
pub struct Place(&'static Counters);

impl Place {
    /// It could not be started.
    pub fn failed(&self) {
        add(&self.0.failed, 1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
    }
}

/// The figures of a location, for what is counted apart from everything else of a session.
#[derive(Debug, Clone, Copy)]
pub struct Figures(&'static Counters);

impl Figures {
    /// Counts messages to a client.
    pub fn sent(self, messages: u64, octets: u64) {
        add(&self.0.messages_out, messages);
        add(&self.0.bytes_out, octets);
    }
}

/// A counted session; not open any more when dropped.
pub struct OpenSession(&'static Counters);

impl OpenSession {
    /// The figures that it belongs to.
    pub fn figures(&self) -> Figures {
        Figures(self.0)
    }

    /// Counts what has passed since the last call.
    pub fn passed(&self, traffic: Traffic) {
        let Traffic { messages_in, messages_out, bytes_in, bytes_out } = traffic;
        // A turn that moved nothing is frequent, and so is one that moved something one way.
        if bytes_in != 0 || messages_in != 0 {
            add(&self.0.messages_in, messages_in);
            add(&self.0.bytes_in, bytes_in);
        }
        if bytes_out != 0 || messages_out != 0 {
            add(&self.0.messages_out, messages_out);
            add(&self.0.bytes_out, bytes_out);
        }
    }

    /// Counts how it ended.
    pub fn closed(self, kind: Closes) {
        add(&self.0.closes[kind.index()], 1);
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// Messages, and octets of their payloads.
#[derive(Clone, Copy, Default)]
pub struct Traffic {
    /// From clients.
    pub messages_in: u64,
    /// To clients.
    pub messages_out: u64,
    /// From clients.
    pub bytes_in: u64,
    /// To clients.
    pub bytes_out: u64,
}

impl Traffic {
    /// What came after `before`.
    pub fn since(self, before: Self) -> Self {
        Traffic {
            messages_in: self.messages_in - before.messages_in,
            messages_out: self.messages_out - before.messages_out,
            bytes_in: self.bytes_in - before.bytes_in,
            bytes_out: self.bytes_out - before.bytes_out,
        }
    }
}

/// One worker's view of the table.
#[derive(Clone, Copy)]
pub struct Ledger {
    table: &'static Table,
    slot: &'static Slot,
}

/// Adds the shared zone to the configuration that is being read, whose locations are entered from `settings` when it has been
/// read. `None` when nginx refuses.
pub fn add_zone(cf: *mut ffi::ngx_conf_t, settings: *mut MainSettings) -> Option<NonNull<ffi::ngx_shm_zone_t>> {
    const NAME: &[u8] = b"ws_exec_ledger";
    // SAFETY: cf is valid while a directive is read; nginx keeps the name, which is static, and the settings, which live as
    // long as the configuration.
    unsafe {
        let mut name = ffi::ngx_str_t { len: NAME.len(), data: NAME.as_ptr().cast_mut() };
        // The slab allocator keeps its own records beside the table, a few octets for each page.
        let size = size_of::<Table>().next_multiple_of(4096);
        let size = size + size / 64 + (64 << 10);
        let zone = NonNull::new(ffi::ngx_shared_memory_add(cf, &raw mut name, size, module::pointer().cast()))?;
        (*zone.as_ptr()).init = Some(init_zone);
        (*zone.as_ptr()).data = settings.cast();
        Some(zone)
    }
}

/// Makes the table, or finds that of the configuration before, and enters the locations.
unsafe extern "C" fn init_zone(zone: *mut ffi::ngx_shm_zone_t, _: *mut c_void) -> ffi::ngx_int_t {
    guard(ffi::NGX_ERROR as isize, || {
        // SAFETY: nginx has mapped the zone and put a slab pool at its beginning; only the master is here. The pool's
        // data is null in a new zone and the table in one that was kept. The pages of a new zone are zero and most of them are
        // never needed, so they are not written to, except in an nginx that fills memory with a pattern to find errors. The
        // zone's data are the settings that add_zone was given.
        let (table, settings) = unsafe {
            let pool = (*zone).shm.addr.cast::<ffi::ngx_slab_pool_t>();
            if (*pool).data.is_null() {
                let table = ffi::ngx_slab_alloc(pool, size_of::<Table>());
                if table.is_null() {
                    return ffi::NGX_ERROR as isize;
                }
                if table.cast::<u64>().read() != 0 {
                    table.write_bytes(0, size_of::<Table>());
                }
                (*pool).data = table;
            }
            let settings = (*zone).data.cast::<MainSettings>().as_ref();
            ((*pool).data.cast::<Table>().as_ref(), settings)
        };
        let (Some(table), Some(settings)) = (table, settings) else { return ffi::NGX_ERROR as isize };
        for (key, label) in &settings.locations {
            table.enter(*key, label);
        }
        ffi::NGX_OK as isize
    })
}

impl Table {
    /// The table of a zone.
    fn of(zone: NonNull<ffi::ngx_shm_zone_t>) -> Option<&'static Self> {
        // SAFETY: init_zone has put the table there, zeroed; it is mapped for the life of the process, aligned by the
        // slab allocator, and made of atomics only.
        unsafe {
            let pool = (*zone.as_ptr()).shm.addr.cast::<ffi::ngx_slab_pool_t>();
            (*pool).data.cast::<Self>().as_ref()
        }
    }

    /// The entry of a key, or the free one that it would get; `None` when all are taken.
    fn find(&self, key: u64) -> Option<(usize, bool)> {
        (0..LOCATIONS - 1)
            .map(|step| (key as usize).wrapping_add(step) % (LOCATIONS - 1))
            .map(|place| (place, self.entries[place].key.load(Acquire)))
            .find(|(_, present)| *present == 0 || *present == key)
            .map(|(place, present)| (place, present == key))
    }

    /// Enters a location, unless it is there. Only the process that reads configurations does.
    fn enter(&self, key: u64, label: &Label) {
        let (entry, label) = match self.find(key.max(1)) {
            Some((_, true)) => return,
            Some((place, false)) => (&self.entries[place], label),
            None => (&self.entries[LOCATIONS - 1], &Label::new("other", "", "")),
        };
        for (word, value) in entry.label.iter().zip(label.words()) {
            word.store(value, Relaxed);
        }
        entry.key.store(key.max(1), Release);
    }

    /// The place of a location's counters.
    fn location(&self, key: u64) -> usize {
        match self.find(key.max(1)) {
            Some((place, true)) => place,
            Some((_, false)) | None => LOCATIONS - 1,
        }
    }

    fn used_slots(&self) -> &[Slot] {
        &self.slots[..(self.used.load(Acquire) as usize).min(SLOTS)]
    }
}

impl Ledger {
    /// Takes a slot for this process. `None` when all belong to living workers.
    pub fn claim(zone: NonNull<ffi::ngx_shm_zone_t>) -> Option<Self> {
        let table = Table::of(zone)?;
        let own = identity(std::process::id())?;
        let slots = || table.slots.iter().enumerate();
        if let Some((_, slot)) = slots().find(|(_, slot)| slot.worker.load(Relaxed) == own) {
            // Without a master the process that read a new configuration goes on as its worker, and with what it has.
            return Some(Ledger { table, slot });
        }
        let (place, slot) = slots().find(|(_, slot)| {
            let occupant = slot.worker.load(Relaxed);
            let free = occupant == 0 || !is_alive(occupant);
            free && slot.worker.compare_exchange(occupant, own, Relaxed, Relaxed).is_ok()
        })?;
        for (entry, counters) in table.entries.iter().zip(&slot.locations) {
            if entry.key.load(Relaxed) != 0 {
                counters.running.store(0, Relaxed);
                counters.open.store(0, Relaxed);
            }
        }
        table.used.fetch_max(place as u64 + 1, Release);
        Some(Ledger { table, slot })
    }

    /// Gives the slot back. What it has counted stays.
    pub fn release(self) {
        self.slot.worker.store(0, Relaxed);
    }

    fn counters(self, key: u64) -> &'static Counters {
        &self.slot.locations[self.table.location(key)]
    }

    /// Counts one more program of a location; `None` when `most` run already (0 for no limit).
    pub fn admit(self, key: u64, most: u64) -> Option<Place> {
        let location = self.table.location(key);
        let counters = &self.slot.locations[location];
        // Counted before it is compared: of two workers that want the last place none gets it, or one, never both.
        counters.running.fetch_add(1, Relaxed);
        let place = Place(counters);
        let fits = |total: u64| most == 0 || total <= most;
        let admitted = fits(self.running(location, |_| true)) || fits(self.running(location, is_alive));
        admitted.then_some(place)
    }

    fn running(self, location: usize, counts: impl Fn(u64) -> bool) -> u64 {
        let mut total = 0;
        for slot in self.table.used_slots() {
            let running = slot.locations[location].running.load(Relaxed);
            let occupant = slot.worker.load(Relaxed);
            if running != 0 && occupant != 0 && counts(occupant) {
                total += u64::from(running);
            }
        }
        total
    }

    /// Counts a session of a location that has just been opened.
    pub fn open(self, key: u64) -> OpenSession {
        let counters = self.counters(key);
        counters.open.fetch_add(1, Relaxed);
        add(&counters.opened, 1);
        OpenSession(counters)
    }

    /// Counts a program of a location that could not even be asked for.
    pub fn program_failed(self, key: u64) {
        add(&self.counters(key).failed, 1);
    }

    /// What all workers have counted.
    pub fn snapshot(self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let slots: Vec<(&Slot, bool)> = self
            .table
            .used_slots()
            .iter()
            .map(|slot| {
                let occupant = slot.worker.load(Relaxed);
                (slot, occupant != 0 && is_alive(occupant))
            })
            .collect();
        snapshot.workers = slots.iter().filter(|(_, lives)| *lives).count() as u64;
        for (place, entry) in self.table.entries.iter().enumerate() {
            if entry.key.load(Acquire) == 0 {
                continue;
            }
            let mut location = Location::default();
            for (slot, lives) in &slots {
                slot.locations[place].add_to(&mut location, *lives);
            }
            let label = Label::from_words(entry.label.each_ref().map(|word| word.load(Relaxed)));
            snapshot.add(&label, &location);
        }
        snapshot
    }
}

impl Counters {
    fn add_to(&self, location: &mut Location, lives: bool) {
        if lives {
            location.current += u64::from(self.open.load(Relaxed));
            location.running += u64::from(self.running.load(Relaxed));
        }
        for (total, counter) in [
            (&mut location.total, &self.opened),
            (&mut location.messages_in, &self.messages_in),
            (&mut location.messages_out, &self.messages_out),
            (&mut location.bytes_in, &self.bytes_in),
            (&mut location.bytes_out, &self.bytes_out),
            (&mut location.failures, &self.failed),
        ] {
            *total += counter.load(Relaxed);
        }
        for (total, counter) in location.closes.iter_mut().zip(&self.closes) {
            *total += counter.load(Relaxed);
        }
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
