// SPDX-License-Identifier: Apache-2.0

//! The shared memory of the channels, and the wake-up of the workers that use it.
//!
//! nginx puts a slab pool at the beginning of every zone. Of that only the mutex is used, the one lock that the master
//! releases when its holder is killed; the pages belong to the store.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use std::{hint, thread};

use super::wakeups::Wakeups;
use crate::channel::lock::Lock;
use crate::channel::memory::Region;
use crate::channel::store::{AttachError, MAX_SLOTS, Store};
use crate::nginx::guard::{guard, guard_status};
use crate::nginx::log::{self, Level};
use crate::nginx::process::exists;
use crate::nginx::status::Status;
use crate::nginx::{address, ffi};

/// Workers that can use the channels at the same time, those of earlier configurations that are still finishing included.
const SLOTS: usize = MAX_SLOTS;

// nginx starts no process beyond this number, so there is a slot for every worker that it can start.
const _: () = assert!(SLOTS >= ffi::NGX_MAX_PROCESSES as usize);

/// So often a process that waits for the mutex looks for it without sleeping, each time after twice as many turns of an empty loop: the
/// mutex is held for microseconds.
const SPINS: u32 = 11;

/// How long it sleeps then, twice as long each time.
const SHORTEST_PAUSE: Duration = Duration::from_micros(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

/// The mutex of a zone.
#[derive(Debug, Clone, Copy)]
pub struct ZoneLock(NonNull<ffi::ngx_shm_zone_t>);

impl ZoneLock {
    fn mutex(self) -> *mut ffi::ngx_shmtx_t {
        // SAFETY: the zone is mapped as long as the cycle that this process works for, and begins with a slab pool.
        unsafe { &raw mut (*(*self.0.as_ptr()).shm.addr.cast::<ffi::ngx_slab_pool_t>()).mutex }
    }

    fn try_lock(self) -> bool {
        // SAFETY: the mutex is in the zone, which is mapped as long as its cycle.
        unsafe { ffi::ngx_shmtx_trylock(self.mutex()) != 0 }
    }

    /// Looks again and again. Who waits in nginx's own way is woken by whoever has had the mutex, and sleeps for ever where that one
    /// is killed just before.
    #[cold]
    fn wait(self) {
        let mut pause = SHORTEST_PAUSE;
        for look in 0_u32.. {
            if look < SPINS {
                (0..1 << look).for_each(|_| hint::spin_loop());
            } else {
                thread::sleep(pause);
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
            if self.try_lock() {
                return;
            }
            if pause == LONGEST_PAUSE {
                self.release_dead();
            }
        }
    }

    /// Gives back what a process holds that is not there any more: its master does so, unless that is not there any more either.
    fn release_dead(self) {
        let mutex = self.mutex();
        // SAFETY: the mutex is in the zone, which is mapped as long as its cycle, and its word is read as others write it.
        unsafe {
            let holder = (*mutex).lock.read_volatile();
            if holder != 0 && !u32::try_from(holder).is_ok_and(exists) {
                ffi::ngx_shmtx_force_unlock(mutex, holder as ffi::ngx_pid_t);
            }
        }
    }
}

impl Lock for ZoneLock {
    fn lock(&self) {
        if !self.try_lock() {
            self.wait();
        }
    }

    fn unlock(&self) {
        // SAFETY: the mutex is in the zone, which is mapped as long as its cycle; lock() has taken it.
        unsafe { ffi::ngx_shmtx_unlock(self.mutex()) };
    }
}

/// The zone of one configuration.
#[derive(Debug, Clone, Copy)]
pub struct ChannelZone(NonNull<ffi::ngx_shm_zone_t>);

impl ChannelZone {
    /// Adds the zone to the configuration that is being read. `None` when nginx refuses.
    pub fn add(cf: *mut ffi::ngx_conf_t, size: u64) -> Option<Self> {
        const NAME: &[u8] = b"ws_exec_channels";
        let size = usize::try_from(size).ok()?;
        // SAFETY: cf is valid while the configuration is read; nginx keeps the name, which is static. The cleanup runs
        // before the memory of the cycle, the zone's description in it, is freed.
        unsafe {
            let mut name = ffi::ngx_str_t { len: NAME.len(), data: NAME.as_ptr().cast_mut() };
            let zone = NonNull::new(ffi::ngx_shared_memory_add(cf, &raw mut name, size, address::of_module().cast()))?;
            let cleanup = ffi::ngx_pool_cleanup_add((*(*cf).cycle).pool, 0);
            if cleanup.is_null() {
                return None;
            }
            (*cleanup).handler = Some(discard);
            (*cleanup).data = zone.as_ptr().cast();
            (*zone.as_ptr()).init = Some(init);
            Some(ChannelZone(zone))
        }
    }

    /// The store in it, for this process.
    ///
    /// # Errors
    ///
    /// The zone holds something else.
    pub fn store(self) -> Result<Store<ZoneLock>, AttachError> {
        Store::attach(self.region()?, ZoneLock(self.0))
    }

    /// What its workers wake each other by.
    pub fn wakeups(self) -> Option<Rc<Wakeups>> {
        // SAFETY: data is null or came from Rc::into_raw and is held by the zone, which gains a second holder here.
        unsafe {
            let data = (*self.0.as_ptr()).data.cast::<Wakeups>().cast_const();
            if data.is_null() {
                return None;
            }
            Rc::increment_strong_count(data);
            Some(Rc::from_raw(data))
        }
    }

    /// The pages of the slab pool, none of which the pool itself has given to anybody.
    fn region(self) -> Result<Region, AttachError> {
        // SAFETY: nginx has mapped the zone and put a pool at its beginning; pages and end bound the rest of the mapping,
        // which stays until the process ends. Everybody who uses it does so through a region.
        unsafe {
            let pool = &*(*self.0.as_ptr()).shm.addr.cast::<ffi::ngx_slab_pool_t>();
            let len = usize::try_from(pool.end.offset_from(pool.start)).map_err(|_| AttachError::Size)?;
            let base = NonNull::new(pool.start).ok_or(AttachError::Size)?;
            Region::lent(base, len).ok_or(AttachError::Size)
        }
    }
}

/// The size of the zone that the master had last; 0 before the first one.
static LAST_SIZE: AtomicUsize = AtomicUsize::new(0);

/// Makes the zone, or takes over that of the configuration before.
unsafe extern "C" fn init(zone: *mut ffi::ngx_shm_zone_t, old: *mut c_void) -> ffi::ngx_int_t {
    guard_status(Status::ERROR, || {
        let Some(zone) = NonNull::new(zone) else { return Status::ERROR };
        match prepare(ChannelZone(zone), old.cast::<Wakeups>().cast_const()) {
            Ok(()) => Status::OK,
            Err(reason) => {
                log::cycle(Level::Emerg, format_args!("\"websocket_channel_zone\": {reason}"));
                Status::ERROR
            }
        }
    })
}

fn prepare(zone: ChannelZone, old: *const Wakeups) -> Result<(), String> {
    let wakeups = if old.is_null() {
        let wakeups = Wakeups::new().map_err(|error| format!("no descriptors to wake workers with: {error}"))?;
        // SAFETY: the zone is new, and nobody else is here yet.
        let size = unsafe { (*zone.0.as_ptr()).shm.size };
        let lock = ZoneLock(zone.0);
        let region = zone.region().map_err(|error| error.to_string())?;
        Store::create(region, lock, SLOTS, seed()).map_err(|error| error.to_string())?;
        let last = LAST_SIZE.swap(size, Relaxed);
        if last != 0 && last != size {
            log::cycle(
                Level::Warn,
                format_args!(
                    "\"websocket_channel_zone\" was {last} octets and is {size} now: channels begin empty, and those who stay with old workers get nothing of them"
                ),
            );
        }
        Rc::into_raw(Rc::new(wakeups))
    } else {
        zone.store().map_err(|error| error.to_string())?;
        // SAFETY: the data of the old zone came from here, and its holder is still there.
        unsafe { Rc::increment_strong_count(old) };
        old
    };
    // SAFETY: the zone is being initialised, its data is empty.
    unsafe { (*zone.0.as_ptr()).data = wakeups.cast_mut().cast() };
    Ok(())
}

/// The configuration goes: its zone holds their descriptors no longer.
unsafe extern "C" fn discard(zone: *mut c_void) {
    guard((), || {
        // SAFETY: the description of the zone is still there; data is null or from Rc::into_raw, and taken away here.
        unsafe {
            let zone = zone.cast::<ffi::ngx_shm_zone_t>();
            let wakeups = std::mem::replace(&mut (*zone).data, std::ptr::null_mut());
            if !wakeups.is_null() {
                drop(Rc::from_raw(wakeups.cast::<Wakeups>().cast_const()));
            }
        }
    });
}

/// Something that clients cannot guess, for the order of channels in their table.
fn seed() -> [u64; 2] {
    let mut seed = [0_u64; 2];
    // SAFETY: the buffer has the length that is told; short of octets it keeps its zeroes.
    unsafe { libc::getrandom(seed.as_mut_ptr().cast(), size_of_val(&seed), 0) };
    seed
}
