// SPDX-License-Identifier: Apache-2.0

//! What this worker counts of an engine, in a zone that all workers share: see [`engines`](crate::ledger::engines).

use std::ffi::c_void;
use std::ptr::NonNull;
use std::rc::Rc;

use super::Settings;
use crate::channel::store::Now;
use crate::ledger::engines::{Figures, Loss, Relayed, Table};
use crate::nginx::address;
use crate::nginx::channel::hub;
use crate::nginx::ffi;
use crate::nginx::guard::guard_status;
use crate::nginx::log::{self, Level};
use crate::nginx::process;
use crate::nginx::status::Status;
use crate::nginx::template;
use crate::redis::connection::Server;
use crate::redis::relay::Counts;
use crate::status::engine::Engine;

const NAME: &[u8] = b"ws_exec_engines";

/// The zone in which a configuration has the figures of its engines.
///
/// Invariant: made by [`add_zone`], and used by what belongs to its configuration.
#[derive(Debug, Clone, Copy)]
pub struct Zone(NonNull<ffi::ngx_shm_zone_t>);

/// Adds the zone to the configuration that is being read. `None` when nginx refuses, which was logged.
pub fn add_zone(cf: *mut ffi::ngx_conf_t) -> Option<Zone> {
    let mut name = template::copy(cf, NAME).ok()?;
    // The slab allocator keeps its own records beside the table, a few octets for each page.
    let size = size_of::<Table>().next_multiple_of(4096);
    let size = size + size / 64 + (64 << 10);
    // SAFETY: cf is valid while the configuration is read; nginx keeps the name, which is in the pool of the configuration.
    unsafe {
        let zone = ffi::ngx_shared_memory_add(cf, &raw mut name, size, address::of_module().cast());
        let zone = NonNull::new(zone)?;
        (*zone.as_ptr()).init = Some(init_zone);
        Some(Zone(zone))
    }
}

/// Makes the table in a new zone.
unsafe extern "C" fn init_zone(zone: *mut ffi::ngx_shm_zone_t, _: *mut c_void) -> ffi::ngx_int_t {
    guard_status(Status::ERROR, || {
        // SAFETY: nginx has mapped the zone and put a slab pool at its beginning, and only the master is here. The pool's data
        // is null in a new zone and the table in one that was kept.
        unsafe {
            let pool = (*zone).shm.addr.cast::<ffi::ngx_slab_pool_t>();
            if (*pool).data.is_null() {
                let table = ffi::ngx_slab_calloc(pool, size_of::<Table>());
                if table.is_null() {
                    return Status::ERROR;
                }
                (*pool).data = table;
            }
        }
        Status::OK
    })
}

/// The table; `None` before the zone is mapped.
fn table(Zone(zone): Zone) -> Option<&'static Table> {
    // SAFETY: init_zone has put the table there, zeroed; it is mapped for the life of the process, since the zone stays as long
    // as a configuration names an engine, and a worker has the mapping of its own one until it ends; it is aligned to a page by
    // the slab allocator, and made of atomics only.
    unsafe {
        let pool = (*zone.as_ptr()).shm.addr.cast::<ffi::ngx_slab_pool_t>().as_ref()?;
        pool.data.cast::<Table>().as_ref()
    }
}

/// Gives each engine of a configuration, whose zones are mapped, a place for its figures. For the master.
pub fn enter(zone: Option<Zone>, all: &[Rc<Settings>]) {
    let keys: Vec<u64> = all.iter().map(|settings| settings.space).collect();
    if let Some(table) = zone.and_then(table) {
        table.enter(&keys, process::lives_as);
    }
}

/// The seat of this worker for an engine.
pub fn claim(zone: Option<Zone>, settings: &Settings) -> Option<Figures> {
    table(zone?)?.claim(settings.space, process::identity(), process::lives_as)
}

/// The figures of an engine, for the status page.
pub fn read(zone: Option<Zone>, settings: &Settings) -> Engine {
    let figures = zone.and_then(table).and_then(|table| table.read(settings.space, process::lives_as));
    Engine { name: settings.name(), ..figures.unwrap_or_default() }
}

fn unix() -> u64 {
    let Now { unix, .. } = hub::time();
    unix
}

/// The connection for commands is there, or is not.
pub fn connected(figures: Option<Figures>, is_there: bool) {
    if let Some(figures) = figures {
        figures.connected(is_there, unix());
    }
}

/// This worker listens, or does not.
pub fn listens(figures: Option<Figures>, is_listening: bool) {
    if let Some(figures) = figures {
        figures.listening(process::identity(), is_listening, unix());
    }
}

/// Something was lost. Whether that is to be logged.
pub fn lost(figures: Option<Figures>, loss: Loss) -> bool {
    figures.is_none_or(|figures| figures.lost(loss))
}

/// Something is there again, which this worker had lost, or another one. Whether that is to be logged.
pub fn regained(figures: Option<Figures>, loss: Loss, was_lost: bool) -> bool {
    figures.map_or(was_lost, |figures| figures.regained(loss))
}

/// Says that the engine is there again.
pub fn log_return(name: &str, server: &Server) {
    let (product, version) = (&server.product, &server.version);
    log::cycle(Level::Notice, format_args!("channels: {name} is there again ({product} {version})"));
}

/// Adds what the relay has counted since the last call.
pub fn relayed(figures: Option<Figures>, counted: &mut Counts, counts: Counts) {
    if let Some(figures) = figures.filter(|_| *counted != counts) {
        figures.relayed(Relayed {
            sent: counts.sent - counted.sent,
            failed: counts.failed - counted.failed,
            fetched: counts.fetched - counted.fetched,
            epochs: counts.epochs - counted.epochs,
        });
        *counted = counts;
    }
}
