// SPDX-License-Identifier: Apache-2.0

//! The shared memory of [`crate::ledger`], and which location is which.
//!
//! There is a zone for each chunk. When a configuration has been read, the zones of the one that is in use tell how many are
//! needed; those that were there keep their place and contents. What was planned then is carried out by the last of the
//! zones when all are mapped, and from that time on the locations of this configuration know their places.

use std::alloc::{Layout, alloc_zeroed};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ptr::{self, NonNull};
use std::rc::Rc;

use super::conf_ctx;
use super::ffi;
use super::guard::guard_status;
use super::log::{self, Level};
use super::process;
use super::request::bytes;
use super::status::Status;
use super::{address, template::NginxCompiler};
use crate::conf::Settings;
use crate::ledger::naming::{Named, labels};
use crate::ledger::plan::{self, Keys, Plan};
use crate::ledger::{Chunk, Identity, LOCATIONS, Ledger, carry_out, oldest_configuration, present};
use crate::status::Label;

// nginx starts no process beyond this number.
const _: () = assert!(crate::ledger::SEATS >= ffi::NGX_MAX_PROCESSES as usize);

thread_local! {
    static OWN: RefCell<Option<Rc<Ledger>>> = const { RefCell::new(None) };
}

/// What this worker counts.
pub fn own() -> Option<Rc<Ledger>> {
    OWN.with_borrow(Option::clone)
}

/// This worker counts from now on what the locations of a configuration need. `false` when there is no memory.
pub fn begin(counted: &Counted) -> bool {
    if !counted.is_used() {
        return true;
    }
    let begun = counted.begin(process::identity(), own().as_deref());
    let is_there = begun.is_some();
    if let Some(ledger) = begun {
        OWN.set(Some(Rc::new(ledger)));
    }
    is_there
}

/// The worker leaves; it counts no more.
pub fn end() {
    if let Some(ledger) = OWN.take() {
        ledger.release();
    }
}

/// The locations of one configuration, and their counters.
#[derive(Default)]
pub struct Counted {
    /// Something counts, or shows what was counted.
    is_needed: bool,
    named: Vec<(Keys, Named)>,
    /// The locations with what they are called, when all are known.
    locations: Vec<(Keys, Label)>,
    /// How many there are of each name.
    names: HashMap<u64, u64>,
    /// 1 for the first one.
    configuration: u64,
    plan: Option<Plan>,
    zones: Vec<NonNull<ffi::ngx_shm_zone_t>>,
}

impl Counted {
    /// There is something that counts, or that shows what was counted.
    pub fn need(&mut self) {
        self.is_needed = true;
    }

    /// Whether there are counters, after the configuration was read.
    pub fn is_used(&self) -> bool {
        self.is_needed || !self.zones.is_empty()
    }

    /// Notes the location that is being merged. Its number in this configuration.
    pub fn enter(&mut self, cf: *mut ffi::ngx_conf_t, settings: &Settings<NginxCompiler>, endpoint: &str) -> u64 {
        // SAFETY: called while a location is merged, when the servers have been; the names live as long as the configuration.
        let (server, location) = unsafe {
            (bytes(&(*conf_ctx::core_server_of(cf)).server_name), bytes(&(*conf_ctx::core_location_of(cf)).name))
        };
        let mut addresses: Vec<&[u8]> = Vec::new();
        // SAFETY: cf is valid while the configuration is read.
        while let Some(address) = unsafe { ffi::ngx_ws_conf_server_address(cf, addresses.len()).as_ref() } {
            // SAFETY: the texts of addresses live as long as the configuration.
            addresses.push(unsafe { bytes(address) });
        }
        addresses.sort_unstable();
        let short = number(&(endpoint, server, &settings.path));
        let full = number(&(short, &addresses));
        let count = self.names.entry(full).or_insert(0);
        *count += 1;
        let [full, short] = [full, short].map(|name| number(&(name, *count)));
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let named = Named {
            endpoint: endpoint.to_owned(),
            server: text(server),
            addresses: text(&addresses.join(&b' ')),
            location: text(location),
            path: shown(&settings.path),
        };
        self.named.push((Keys { full, short }, named));
        self.named.len() as u64 - 1
    }

    /// Everything was read: adds the zones that are needed for it and for what workers of configurations before still
    /// have. `false` when nginx refuses.
    pub fn add_zones(&mut self, cf: *mut ffi::ngx_conf_t) -> bool {
        // SAFETY: the cycle is being made, and the one before is there.
        let before = unsafe { in_use((*(*cf).cycle).old_cycle) };
        let chunks: Vec<&Chunk> = before.map(Counted::chunks).unwrap_or_default();
        let current = before.map_or(0, |before| before.configuration);
        let present = present(&chunks);
        // A configuration that was refused may have made entries: its number is not used again.
        self.configuration = present.iter().map(|entry| entry.configuration).fold(current, u64::max) + 1;
        let (keys, named): (Vec<Keys>, Vec<Named>) = std::mem::take(&mut self.named).into_iter().unzip();
        self.locations = keys.into_iter().zip(labels(&named)).collect();
        let keys: Vec<Keys> = self.locations.iter().map(|(keys, _)| *keys).collect();
        let plan = plan::plan(&present, &keys, current, oldest_configuration(&chunks, process::lives_as));
        if !self.is_needed && plan.places == 0 {
            return true;
        }
        let counted = ptr::from_mut(self);
        for nth in 0..plan.places.div_ceil(LOCATIONS).max(1) {
            let Some(zone) = add_zone(cf, nth, counted) else { return false };
            self.zones.push(zone);
        }
        self.plan = Some(plan);
        true
    }

    /// The counters of all locations. Those of zones that are not mapped yet are left out.
    fn chunks(&self) -> Vec<&'static Chunk> {
        // SAFETY: add_zones() has added them, to the configuration that this is of.
        self.zones.iter().filter_map(|zone| unsafe { chunk(*zone) }).collect()
    }

    /// The process begins to count, as `own`, or goes on after it has read this configuration.
    fn begin(&self, own: Identity, before: Option<&Ledger>) -> Option<Ledger> {
        let plan = self.plan.as_ref()?;
        let places = || plan.entries.iter().map(|entry| entry.place).collect();
        let chunks = self.chunks();
        if let Some(before) = before.filter(|before| chunks.first().is_some_and(|first| before.is_in(first))) {
            return Some(before.with(chunks, places(), self.configuration));
        }
        let claim = |chunks| Ledger::claim(chunks, places(), self.configuration, own, process::lives_as);
        claim(chunks).or_else(|| {
            // An nginx that was changed to start more processes than it usually can.
            log::cycle(
                Level::Warn,
                format_args!("ws_exec: there are too many workers to count together: this one has limits of its own"),
            );
            claim(self.zones.iter().filter_map(|_| private()).collect())
        })
    }
}

/// The names of locations as they are in a configuration.
pub fn shown(path: &[u8]) -> String {
    let segment = |segment: &[u8]| match segment.split_first() {
        Some((b'/', name)) => String::from_utf8_lossy(name).into_owned(),
        Some((b'i', _)) => "if".to_owned(),
        Some((b'l', _)) => "limit_except".to_owned(),
        Some((kind, name)) => format!("{} {}", char::from(*kind), String::from_utf8_lossy(name)),
        None => String::new(),
    };
    path.split(|octet| *octet == 0).filter(|part| !part.is_empty()).map(segment).collect::<Vec<_>>().join(" ")
}

/// A number for what hashes alike, not 0 and the same in every process.
fn number(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish().max(1)
}

fn name(nth: usize) -> String {
    if nth == 0 { "ws_exec_ledger".to_owned() } else { format!("ws_exec_ledger_{nth}") }
}

/// The locations of a cycle that has zones of counters.
///
/// # Safety
///
/// The cycle is null or valid, and so are its zones.
unsafe fn in_use<'a>(cycle: *mut ffi::ngx_cycle_t) -> Option<&'a Counted> {
    // SAFETY: nginx's list is a chain of arrays with so many elements in use. The data of our zones are the locations that
    // they were added for, which live as long as the cycle.
    unsafe {
        let mut part = &raw const cycle.as_ref()?.shared_memory.part;
        while let Some(here) = part.as_ref() {
            let zones = here.elts.cast::<ffi::ngx_shm_zone_t>();
            for nth in 0..here.nelts {
                let zone = &*zones.add(nth);
                if zone.tag == address::of_module().cast() && bytes(&zone.shm.name) == name(0).as_bytes() {
                    return zone.data.cast::<Counted>().as_ref();
                }
            }
            part = here.next;
        }
    }
    None
}

/// Adds the zone of one chunk to the configuration that is being read. `None` when nginx refuses.
fn add_zone(cf: *mut ffi::ngx_conf_t, nth: usize, counted: *mut Counted) -> Option<NonNull<ffi::ngx_shm_zone_t>> {
    let name = name(nth);
    // SAFETY: cf is valid while the configuration is read; nginx keeps the name, which is in the pool of the
    // configuration, and the locations, which live as long as that.
    unsafe {
        let data = ffi::ngx_pnalloc((*cf).pool, name.len()).cast::<u8>();
        if data.is_null() {
            return None;
        }
        data.copy_from_nonoverlapping(name.as_ptr(), name.len());
        let mut name = ffi::ngx_str_t { len: name.len(), data };
        // The slab allocator keeps its own records beside the chunk, a few octets for each page.
        let size = size_of::<Chunk>().next_multiple_of(4096);
        let size = size + size / 64 + (64 << 10);
        let zone = NonNull::new(ffi::ngx_shared_memory_add(cf, &raw mut name, size, address::of_module().cast()))?;
        (*zone.as_ptr()).init = Some(init_zone);
        (*zone.as_ptr()).data = counted.cast();
        Some(zone)
    }
}

/// Makes the chunk, or finds that of the configuration before, and enters the locations when it is the last one.
unsafe extern "C" fn init_zone(zone: *mut ffi::ngx_shm_zone_t, _: *mut c_void) -> ffi::ngx_int_t {
    guard_status(Status::ERROR, || {
        // The pages of a new zone are zero and most of them are never needed, so they are not written to, except in an nginx that
        // fills memory with a pattern to find errors.
        //
        // SAFETY: nginx has mapped the zone and put a slab pool at its beginning, and only the master is here. The pool's data
        // is null in a new zone and the chunk in one that was kept; the zone's data are what add_zone() was given.
        let counted = unsafe {
            let pool = (*zone).shm.addr.cast::<ffi::ngx_slab_pool_t>();
            if (*pool).data.is_null() {
                let chunk = ffi::ngx_slab_alloc(pool, size_of::<Chunk>());
                if chunk.is_null() {
                    return Status::ERROR;
                }
                if chunk.cast::<u64>().read() != 0 {
                    chunk.write_bytes(0, size_of::<Chunk>());
                }
                (*pool).data = chunk;
            }
            (*zone).data.cast::<Counted>().as_ref()
        };
        let Some(counted) = counted else { return Status::ERROR };
        if counted.zones.last().map(|last| last.as_ptr()) == Some(zone)
            && let Some(plan) = &counted.plan
        {
            carry_out(&counted.chunks(), plan, &counted.locations, counted.configuration);
        }
        Status::OK
    })
}

/// The chunk of a zone; `None` before it is mapped.
///
/// # Safety
///
/// The zone is one that [`add_zone`] has added, of a configuration that is there.
unsafe fn chunk(zone: NonNull<ffi::ngx_shm_zone_t>) -> Option<&'static Chunk> {
    // SAFETY: init_zone has put the chunk there, zeroed; it is mapped for the life of the process, since a zone stays as
    // long as a worker knows a location in it; it is aligned to a page by the slab allocator, and made of atomics only.
    unsafe {
        let pool = (*zone.as_ptr()).shm.addr.cast::<ffi::ngx_slab_pool_t>().as_ref()?;
        pool.data.cast::<Chunk>().as_ref()
    }
}

/// A chunk of this process alone.
fn private() -> Option<&'static Chunk> {
    // SAFETY: a chunk has a size, and consists of atomic integers, for which zeroes are a value. It is never freed.
    unsafe { alloc_zeroed(Layout::new::<Chunk>()).cast::<Chunk>().as_ref() }
}
