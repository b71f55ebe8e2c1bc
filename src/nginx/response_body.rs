// SPDX-License-Identifier: Apache-2.0

//! The body of a response, as pieces that nginx is sending.
//!
//! The octets of a message are shared with the other subscribers of this worker, those of a program are for one client; they are held
//! here until nginx has sent them.

use std::collections::VecDeque;
use std::{mem, ptr};

use super::acceptance;
use super::ffi;
use super::request::{HeldRequest, Request};
use super::status::Status;
use super::timer::now;
use super::uptake::Uptake;
use crate::channel::streaming::Content;
use crate::session::client::Lost;
use crate::ws::handshake::HttpVersion;
use crate::ws::timing::Look;

/// What a piece of a body points to.
pub trait Octets {
    /// The octets. They do not move as long as this lives, whoever owns it.
    fn octets(&self) -> &[u8];
}

impl Octets for Content {
    fn octets(&self) -> &[u8] {
        Content::octets(self)
    }
}

impl Octets for Vec<u8> {
    fn octets(&self) -> &[u8] {
        self
    }
}

/// What a piece takes besides its octets: here, and in nginx, whose filter for chunks adds two buffers to it. Messages of
/// one octet must not take hundreds of times what a subscriber may have.
const PIECE: usize = 320;

/// A buffer that nginx has been given; it does not move as long as the request lives.
struct Piece<C> {
    buffer: Box<ffi::ngx_buf_t>,
    /// What the buffer points to.
    _content: C,
}

impl<C> Piece<C> {
    fn left(&self) -> usize {
        // SAFETY: fill() has made both pointers point into the content, or null; nginx only moves the first towards the second.
        usize::try_from(unsafe { self.buffer.last.offset_from(self.buffer.pos) }).unwrap_or(0)
    }
}

/// Lets a buffer be about octets that stay where they are until its `pos` has come to its `last`.
///
/// To the filters of lua and njs both marks of the last buffer say that nothing comes after it. The end of a subrequest is not that of
/// the response that it is part of.
fn fill(buffer: &mut ffi::ngx_buf_t, octets: &[u8], is_last: bool, is_main: bool) {
    // SAFETY: a buffer of nginx is plain data, for which all zeroes is empty.
    *buffer = unsafe { std::mem::zeroed() };
    if !octets.is_empty() {
        let octets = octets.as_ptr_range();
        (buffer.start, buffer.end) = (octets.start.cast_mut(), octets.end.cast_mut());
        (buffer.pos, buffer.last) = (buffer.start, buffer.end);
        buffer.set_memory(1);
    }
    buffer.set_flush(1);
    buffer.set_last_buf((is_last && is_main).into());
    buffer.set_last_in_chain(is_last.into());
}

/// Whether what the request says is being sent, and not kept until a subrequest before it has ended: nginx has it tell the connection.
fn has_its_turn(request: Request<'_>) -> bool {
    // SAFETY: the request is alive, and so is its connection, whose data is the request that is sent from.
    unsafe { ptr::eq((*request.connection()).data.cast(), request.raw()) }
}

/// Whether nginx lets the client wait, as `limit_rate` says, and goes on by itself.
fn is_delayed(request: Request<'_>) -> bool {
    // SAFETY: the request is alive, and so is its connection with its events.
    unsafe { (*(*request.connection()).write).delayed() != 0 }
}

/// Asks for the next event of the client if something waits to be sent. `false` when the system refuses. A request that waits for its
/// turn is run by nginx when that comes.
fn wait_to_write(request: Request<'_>) -> bool {
    // SAFETY: the request is alive, and so is its connection.
    unsafe {
        let (raw, connection) = (request.raw(), request.connection());
        let waits = (*raw).buffered() != 0 || !(*raw).postponed.is_null() || (*connection).buffered() != 0;
        !waits
            || !has_its_turn(request)
            || ffi::ngx_handle_write_event((*connection).write, (*request.core_location()).send_lowat) == Status::OK
    }
}

/// The pieces of one body, in order.
pub struct Body<C> {
    request: HeldRequest,
    /// Each piece is a chunk of its own where the response has chunks.
    apart: bool,
    in_flight: VecDeque<Piece<C>>,
    /// Empty buffers that filters may still look at: the one for chunks notices only at its next piece that an earlier
    /// one has gone. They are used again, and freed with the request.
    #[expect(clippy::vec_box, reason = "the filters have their addresses")]
    spare: Vec<Box<ffi::ngx_buf_t>>,
    /// Pieces at the end of `in_flight` that nginx has not been given yet.
    fresh: usize,
    /// What nginx is given in one call, and nothing between two: the memory is used again.
    given: Vec<*mut ffi::ngx_buf_t>,
    /// Octets in flight when something was last taken.
    left: usize,
    /// When something was last sent, and when something was last taken.
    sent: u64,
    moved: u64,
    /// What the client has taken of what left here.
    uptake: Uptake,
}

impl<C: Octets> Body<C> {
    /// Without any pieces. `apart`: each of them is to be a chunk.
    ///
    /// # Safety
    ///
    /// The promise of [`Request::held`]: the body does not outlive the request.
    pub unsafe fn new(request: Request<'_>, apart: bool) -> Self {
        Body {
            // SAFETY: the caller promises what held() asks for.
            request: unsafe { request.held() },
            apart,
            in_flight: VecDeque::new(),
            spare: Vec::new(),
            fresh: 0,
            given: Vec::new(),
            left: 0,
            sent: now(),
            moved: now(),
            uptake: Uptake::default(),
        }
    }

    /// What the pieces that nginx has not sent yet cost: their octets, and what each of them takes besides.
    pub fn cost(&self) -> usize {
        self.octets() + self.in_flight.len() * PIECE
    }

    fn octets(&self) -> usize {
        self.in_flight.iter().map(Piece::left).sum()
    }

    /// Whether nginx has sent everything.
    pub fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Since when there is silence; `None` while something is being sent.
    pub fn silent_since(&self) -> Option<u64> {
        self.is_empty().then_some(self.sent)
    }

    /// Since when the client has taken nothing of what is being sent.
    pub fn stuck_since(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.moved)
    }

    /// Looks what the client has taken of what the system has for it. The connection of HTTP/2 carries other responses too, and that of
    /// HTTP/3 is not the system's: of these nothing is known.
    pub fn look(&mut self) -> Look {
        let request = self.request.get();
        match acceptance::version(request) {
            HttpVersion::Http10 | HttpVersion::Http11 => self.uptake.look(request.connection()),
            HttpVersion::Http2 | HttpVersion::Http3 => Look { taken: false, all: true },
        }
    }

    /// Lets the head leave that has nothing behind it yet.
    pub fn flush_head(&mut self) -> Result<(), Lost> {
        // SAFETY: the request is alive, and its head was sent.
        let sent = unsafe { ffi::ngx_ws_flush_head(self.request.get().raw()) };
        if sent == Status::ERROR { Err(Lost) } else { Ok(()) }
    }

    /// Adds a piece; nothing comes after the last one.
    pub fn push(&mut self, content: C, last: bool) {
        if !last && content.octets().is_empty() {
            // Nothing would ever be sent of it; and a chunk without octets would end the body.
            return;
        }
        // SAFETY: a buffer of nginx is plain data, for which all zeroes is empty.
        let new = || Box::new(unsafe { std::mem::zeroed::<ffi::ngx_buf_t>() });
        let mut buffer = self.spare.pop().unwrap_or_else(new);
        let octets = content.octets();
        // The octets live as long as the content, which is kept beside the buffer; nginx only reads them.
        fill(&mut buffer, octets, last, self.request.get().is_main());
        self.in_flight.push_back(Piece { buffer, _content: content });
        self.fresh += 1;
    }

    /// Gives nginx what it has not got yet.
    pub fn send(&mut self) -> Result<(), Lost> {
        let known = self.in_flight.len() - self.fresh;
        let has_fresh = mem::take(&mut self.fresh) != 0;
        self.given.extend(self.in_flight.iter_mut().skip(known).map(|piece| &raw mut *piece.buffer));
        let request = self.request.get().raw();
        // SAFETY: the request is alive, and the buffers stay where they are until they are empty.
        let sent = unsafe {
            ffi::ngx_ws_body_send(request, self.given.as_mut_ptr(), self.given.len(), self.apart.into())
                != Status::ERROR
                && wait_to_write(self.request.get())
        };
        self.given.clear();
        let now = now();
        if has_fresh {
            self.sent = now;
        }
        while self.in_flight.front().is_some_and(|piece| piece.left() == 0) {
            self.spare.extend(self.in_flight.pop_front().map(|piece| piece.buffer));
        }
        let left = self.octets();
        let request = self.request.get();
        // What is kept back here, as a part of a page whose turn has not come or by a rate, the client could not have taken.
        if left == 0 || left != self.left || !has_its_turn(request) || is_delayed(request) {
            self.moved = now;
        }
        self.left = left;
        if sent { Ok(()) } else { Err(Lost) }
    }
}
