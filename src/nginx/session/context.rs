// SPDX-License-Identifier: Apache-2.0

//! What this module keeps for a request.

use std::cell::Cell;
use std::ffi::c_void;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;

use crate::channel::transport::Transport;
use crate::exec::notes::Notes;
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::hold::Holder;
use crate::nginx::request::{bytes, copy_to};
use crate::session::record::Record;

/// The values behind the `$websocket_…` variables, and who holds the request. It lives in the request's pool: nginx writes
/// the log after the session is gone. Several look at it at once: the session, what is called by it, and the variables.
pub struct Context {
    /// The pool that it is in itself.
    pool: NonNull<ffi::ngx_pool_t>,
    /// Who holds the request, while somebody does.
    pub holder: Cell<Option<Holder>>,
    /// nginx was dropping the body of the request when it was taken, and goes on when it is released.
    pub keeps_body: Cell<bool>,
    /// `exec`, `channel` or `tcp`.
    pub endpoint: Cell<Option<&'static str>>,
    /// How a client of channels is served.
    pub transport: Cell<Option<Transport>>,
    /// The subprotocol that was selected.
    protocol: Cell<Option<Text>>,
    /// What became of the request is counted: that it was opened, or refused.
    pub is_counted: Cell<bool>,
    /// The page comes from an origin that the location does not allow.
    pub is_foreign: Cell<bool>,
    /// Why the request is refused, for a client that is told.
    pub refusal: Cell<Option<&'static str>>,
    /// The name of the client's address, where it was looked up.
    remote_host: Cell<Option<Text>>,
    /// The channel ids of the request, joined by commas.
    channel_id: Cell<Option<Text>>,
    /// The ids of the channels that a client publishes to, which gets messages of others.
    publishes_to: Cell<Option<Text>>,
    /// What the program of the request has noted for the access log; the cleanup of the pool has the reference that keeps it.
    notes: Cell<Option<NonNull<Notes>>>,
    /// What has happened since.
    pub record: Record,
}

/// The context of a request, in the memory of whoever holds that.
///
/// Invariant: the pool of the request outlives whoever has this.
pub struct HeldContext(NonNull<Context>);

impl Deref for HeldContext {
    type Target = Context;

    fn deref(&self) -> &Context {
        // SAFETY: the invariant; nobody ever has a mutable reference to a context.
        unsafe { self.0.as_ref() }
    }
}

/// The record in the context of a request.
pub struct RecordRef(pub HeldContext);

impl Deref for RecordRef {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.0.record
    }
}

/// A text in the pool of a context.
#[derive(Clone, Copy)]
struct Text(ffi::ngx_str_t);

impl Context {
    /// Nothing is known yet.
    ///
    /// # Safety
    ///
    /// The pool is that which the context is put into: it lives as long as the context is used.
    pub unsafe fn new(pool: NonNull<ffi::ngx_pool_t>) -> Self {
        Context {
            pool,
            holder: Cell::new(None),
            keeps_body: Cell::new(false),
            endpoint: Cell::new(None),
            transport: Cell::new(None),
            protocol: Cell::new(None),
            is_counted: Cell::new(false),
            is_foreign: Cell::new(false),
            refusal: Cell::new(None),
            remote_host: Cell::new(None),
            channel_id: Cell::new(None),
            publishes_to: Cell::new(None),
            notes: Cell::new(None),
            record: Record::default(),
        }
    }

    /// The subprotocol that was selected.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.get().and_then(|text| str::from_utf8(self.octets(text)).ok())
    }

    /// Notes the subprotocol that was selected. `false` when there is no memory.
    pub fn set_protocol(&self, name: &str) -> bool {
        let copy = self.copy(name.as_bytes());
        self.protocol.set(copy);
        copy.is_some()
    }

    /// The name of the client's address, where it was looked up.
    pub fn remote_host(&self) -> Option<&[u8]> {
        self.remote_host.get().map(|text| self.octets(text))
    }

    /// Notes the name of the client's address.
    pub fn set_remote_host(&self, name: &[u8]) {
        self.remote_host.set(self.copy(name));
    }

    /// The channel ids of the request, joined by commas.
    pub fn channel_id(&self) -> Option<&[u8]> {
        self.channel_id.get().map(|text| self.octets(text))
    }

    /// Notes the channel ids. `false` when there is no memory.
    pub fn set_channel_id(&self, ids: &[u8]) -> bool {
        let copy = self.copy(ids);
        self.channel_id.set(copy);
        copy.is_some()
    }

    /// The channel ids are those that the client publishes to. Those of the channels that it gets messages of come after that.
    pub fn note_publishes_to(&self) {
        self.publishes_to.set(self.channel_id.get());
    }

    /// Takes a step in which the channel ids are those that the client publishes to.
    pub fn as_publisher<R>(&self, step: impl FnOnce() -> R) -> R {
        let Some(ids) = self.publishes_to.get() else { return step() };
        let others = self.channel_id.replace(Some(ids));
        let result = step();
        self.channel_id.set(others);
        result
    }

    /// What the program of the request has noted for the access log.
    pub fn notes(&self) -> Option<&Notes> {
        // SAFETY: set_notes() has let the pool keep a reference until it goes, and the context with it.
        self.notes.get().map(|notes| unsafe { notes.as_ref() })
    }

    /// Lets the log have these notes, and what is added to them. `false` when there is no memory.
    pub fn set_notes(&self, notes: &Rc<Notes>) -> bool {
        // SAFETY: the pool is alive, by the promise of new(); the cleanup is nginx's, to be filled in.
        let cleanup = unsafe { ffi::ngx_pool_cleanup_add(self.pool.as_ptr(), 0).as_mut() };
        let Some(cleanup) = cleanup else { return false };
        let kept = Rc::into_raw(Rc::clone(notes)).cast_mut();
        cleanup.handler = Some(let_notes_go);
        cleanup.data = kept.cast();
        self.notes.set(NonNull::new(kept));
        true
    }

    /// The context for whoever keeps it beyond the handler.
    ///
    /// # Safety
    ///
    /// Whoever keeps the result does not use it any more when the pool of the request is freed.
    pub unsafe fn held(&self) -> HeldContext {
        HeldContext(NonNull::from(self))
    }

    /// Lets the context of a copy of the request know what it is to know. `false` when there is no memory.
    pub fn tell(&self, copy: &Context) -> bool {
        copy.endpoint.set(self.endpoint.get());
        copy.transport.set(self.transport.get());
        copy.record.copy_from(&self.record);
        let protocol = self.protocol().is_none_or(|name| copy.set_protocol(name));
        let channel_id = self.channel_id().is_none_or(|ids| copy.set_channel_id(ids));
        let notes = self.notes.get().is_none_or(|notes| {
            // SAFETY: set_notes() has made the pointer from a reference, which the pool still keeps; this one counts as another.
            let notes = unsafe {
                Rc::increment_strong_count(notes.as_ptr());
                Rc::from_raw(notes.as_ptr())
            };
            copy.set_notes(&notes)
        });
        protocol && channel_id && notes
    }

    fn copy(&self, text: &[u8]) -> Option<Text> {
        // SAFETY: the pool is alive, by the promise of new().
        unsafe { copy_to(self.pool.as_ptr(), text) }.map(Text)
    }

    fn octets(&self, Text(text): Text) -> &[u8] {
        // SAFETY: texts are made by copy() only: they are in the pool, which frees none of them before it goes itself.
        unsafe { bytes(&text) }
    }
}

/// The pool of a request goes, and with it the reference to its notes.
unsafe extern "C" fn let_notes_go(data: *mut c_void) {
    // SAFETY: set_notes() has made the pointer of a reference that it has given to the pool, whose cleanups run once.
    guard((), || drop(unsafe { Rc::from_raw(data.cast_const().cast::<Notes>()) }));
}
