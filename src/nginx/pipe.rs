// SPDX-License-Identifier: Apache-2.0

//! Our ends of the pipes to a program, on nginx connections.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::ptr;

use super::exhaustion::no_connection;
use super::ffi;
use super::status::Status;

/// A pipe: our end watched by nginx, the other end to be given to a program.
pub fn pair(ours_reads: bool) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: pipe2 writes two descriptors, which nobody else owns yet.
    let (reader, writer) = unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(io::Error::last_os_error());
        }
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    };
    let (ours, theirs) = if ours_reads { (reader, writer) } else { (writer, reader) };
    // O_NONBLOCK belongs to the open file description: the program's end stays as programs expect it.
    // SAFETY: the descriptor is open as long as its owner, which is here.
    if unsafe { libc::fcntl(ours.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((ours, theirs))
}

/// Lets a program of another user open one end of a pipe by its name in /proc, as `> /dev/stderr` does. Who else comes to
/// such a name may look into the program anyway.
pub fn let_open(end: &OwnedFd) {
    // SAFETY: the descriptor is open as long as its owner, which is borrowed. A pipe that cannot be opened again is one all the same.
    unsafe { libc::fchmod(end.as_raw_fd(), 0o666) };
}

/// A descriptor of /dev/null for a program to write to.
pub fn null() -> io::Result<OwnedFd> {
    std::fs::OpenOptions::new().write(true).open("/dev/null").map(OwnedFd::from)
}

/// What nginx calls when a descriptor is ready.
pub type Handler = unsafe extern "C" fn(*mut ffi::ngx_event_t);

/// Who hears of a pipe.
#[derive(Debug, Clone, Copy)]
pub struct Listener {
    /// Called with an event whose connection has `data`.
    pub handler: Handler,
    /// The data of the connection whose event `handler` gets.
    pub data: *mut c_void,
    /// Where lines about the pipe go.
    pub log: *mut ffi::ngx_log_t,
}

impl Listener {
    /// Gives a descriptor to nginx.
    ///
    /// # Errors
    ///
    /// All `worker_connections` are in use; nginx has logged it.
    pub fn watch(self, fd: OwnedFd) -> io::Result<Pipe> {
        Pipe::new(fd, self.handler, self.data, self.log)
    }
}

/// A descriptor as a connection of nginx. Closed on drop.
pub struct Pipe {
    connection: *mut ffi::ngx_connection_t,
}

/// What a read brought.
pub enum Read {
    /// This many octets.
    Data(usize),
    /// There is nothing for now.
    Blocked,
    /// The other end is closed.
    End,
    /// Nobody has the other side of this terminal open. Whoever knows its name may open it again.
    HungUp,
}

/// What a write did.
pub enum Written {
    /// This many octets went out.
    Octets(usize),
    /// Nothing can be written for now.
    Blocked,
    /// Nobody reads any more.
    Broken,
}

impl Pipe {
    /// Gives the descriptor to nginx. `handler` gets events whose connection has `data`.
    ///
    /// # Errors
    ///
    /// All `worker_connections` are in use; nginx has logged it.
    pub fn new(fd: OwnedFd, handler: Handler, data: *mut c_void, log: *mut ffi::ngx_log_t) -> io::Result<Self> {
        // SAFETY: nginx owns the descriptor once it has a connection; until then OwnedFd does.
        unsafe {
            let connection = ffi::ngx_get_connection(fd.as_raw_fd(), log);
            if connection.is_null() {
                return Err(no_connection());
            }
            let _ = fd.into_raw_fd();
            (*(*connection).read).log = log;
            (*(*connection).write).log = log;
            (*connection).set_log_error(ffi::NGX_ERROR_INFO);
            (*connection).data = data;
            (*(*connection).read).handler = Some(handler);
            (*(*connection).write).handler = Some(handler);
            Ok(Pipe { connection })
        }
    }

    /// Changes what the events of the connection have.
    pub fn set_data(&mut self, data: *mut c_void) {
        // SAFETY: new() has taken the connection from nginx, and it is ours until drop.
        unsafe { (*self.connection).data = data };
    }

    /// Tells another listener from now on.
    pub fn listen(&self, listener: Listener) {
        let Listener { handler, data, log } = listener;
        // SAFETY: the connection is ours until drop, its events with it.
        unsafe {
            let connection = self.connection;
            (*connection).data = data;
            (*connection).log = log;
            for event in [(*connection).read, (*connection).write] {
                (*event).handler = Some(handler);
                (*event).log = log;
            }
        }
    }

    fn fd(&self) -> i32 {
        // SAFETY: new() has taken the connection from nginx, and it is ours until drop.
        unsafe { (*self.connection).fd }
    }

    /// The descriptor.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor stays open until drop.
        unsafe { BorrowedFd::borrow_raw(self.fd()) }
    }

    fn read_event(&self) -> *mut ffi::ngx_event_t {
        // SAFETY: the connection is ours until drop, and nginx gives its events to nobody else meanwhile.
        unsafe { (*self.connection).read }
    }

    fn write_event(&self) -> *mut ffi::ngx_event_t {
        // SAFETY: the connection is ours until drop, and nginx gives its events to nobody else meanwhile.
        unsafe { (*self.connection).write }
    }

    /// Whether reading is worth a system call.
    pub fn readable(&self) -> bool {
        // SAFETY: the event belongs to our connection, which drop gives back.
        unsafe { (*self.read_event()).ready() != 0 }
    }

    /// Reads once. A short read leaves the pipe marked as not readable: it is watched level-triggered.
    pub fn read(&mut self, buffer: &mut [u8]) -> Read {
        loop {
            // SAFETY: the buffer is writable for its length.
            let count = unsafe { libc::read(self.fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
            match usize::try_from(count) {
                Ok(0) => return Read::End,
                Ok(count) => {
                    if count < buffer.len() {
                        self.clear_readable();
                    }
                    return Read::Data(count);
                }
                Err(_) => {
                    if let Some(read) = self.failed() {
                        return read;
                    }
                }
            }
        }
    }

    /// Reads once into the free capacity of a buffer.
    pub fn append_to(&mut self, buffer: &mut Vec<u8>) -> Read {
        let room = buffer.capacity() - buffer.len();
        loop {
            // SAFETY: the free capacity is writable memory of this length.
            let count = unsafe { libc::read(self.fd(), buffer.spare_capacity_mut().as_mut_ptr().cast(), room) };
            match usize::try_from(count) {
                Ok(0) => return Read::End,
                Ok(count) => {
                    // SAFETY: the kernel has written this many octets behind the length.
                    unsafe { buffer.set_len(buffer.len() + count) };
                    if count < room {
                        self.clear_readable();
                    }
                    return Read::Data(count);
                }
                Err(_) => {
                    if let Some(read) = self.failed() {
                        return read;
                    }
                }
            }
        }
    }

    /// What a failed read means; `None` to try again.
    fn failed(&mut self) -> Option<Read> {
        let error = io::Error::last_os_error();
        match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::Interrupted, _) => None,
            (io::ErrorKind::WouldBlock, _) => {
                self.clear_readable();
                Some(Read::Blocked)
            }
            (_, Some(libc::EIO)) => Some(Read::HungUp),
            // Nothing else is expected of a pipe.
            _ => Some(Read::End),
        }
    }

    fn clear_readable(&mut self) {
        // SAFETY: the event belongs to our connection, which drop gives back.
        unsafe { (*self.read_event()).set_ready(0) };
    }

    /// Asks nginx to watch for something to read, or not to: a level-triggered event that nobody serves would spin.
    /// `false` when epoll refuses.
    pub fn watch_read(&mut self, wanted: bool) -> bool {
        // SAFETY: the event belongs to our connection; the shim looks whether it is active.
        let result = unsafe {
            if wanted { ffi::ngx_ws_add_level_read(self.read_event()) } else { ffi::ngx_ws_del_read(self.read_event()) }
        };
        result == Status::OK
    }

    /// Asks nginx to tell when something happens to a terminal that is [hung up](Read::HungUp): once for each time, as it
    /// counts as readable for as long as that lasts. `watch_read(false)` ends it. `false` when epoll refuses.
    pub fn watch_hung_up(&mut self) -> bool {
        if !self.watch_read(false) {
            return false;
        }
        self.clear_readable();
        // SAFETY: the event belongs to our connection. nginx watches edge-triggered here.
        unsafe { ffi::ngx_handle_read_event(self.read_event(), 0) == Status::OK }
    }

    /// Asks nginx to tell when something arrives or the other end is closed, once for each time: what arrives stays where it
    /// is. `watch_read(false)` ends it. `false` when epoll refuses.
    pub fn watch_arrivals(&mut self) -> bool {
        self.clear_readable();
        // SAFETY: the event belongs to our connection. nginx watches edge-triggered here.
        unsafe { ffi::ngx_handle_read_event(self.read_event(), 0) == Status::OK }
    }

    /// Whether nginx may ask for the connection back when it has few left: it calls the handler of the listener then, with `close` set.
    pub fn let_reuse(&self, wanted: bool) {
        // SAFETY: the connection is ours until drop, which takes it off nginx's list of those that can be reused.
        unsafe { ffi::ngx_reusable_connection(self.connection, wanted.into()) };
    }

    /// Whether all other ends are closed. What was written before may still be there.
    pub fn is_hung_up(&self) -> bool {
        let mut polled = libc::pollfd { fd: self.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: poll writes to the one struct that it is given, and does not wait.
        let count = unsafe { libc::poll(&raw mut polled, 1, 0) };
        count > 0 && polled.revents & (libc::POLLHUP | libc::POLLERR) != 0
    }

    /// Takes it that there may be something to read: nobody has looked.
    pub fn expect_input(&mut self) {
        // SAFETY: the event belongs to our connection.
        unsafe { (*self.read_event()).set_ready(1) };
    }

    /// Forgets that there was something to read: the next event tells.
    pub fn wait_for_event(&mut self) {
        self.clear_readable();
    }

    /// Writes once; asks nginx to tell when more can be written.
    pub fn write(&mut self, octets: &[u8]) -> Written {
        loop {
            // SAFETY: the octets are readable for their length. SIGPIPE is ignored by nginx.
            let count = unsafe { libc::write(self.fd(), octets.as_ptr().cast(), octets.len()) };
            if let Ok(count) = usize::try_from(count) {
                return Written::Octets(count);
            }
            match io::Error::last_os_error().kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => {
                    // SAFETY: the event belongs to our connection, which drop gives back.
                    let watched = unsafe { ffi::ngx_ws_add_edge_write(self.write_event()) };
                    return if watched == Status::OK { Written::Blocked } else { Written::Broken };
                }
                _ => return Written::Broken,
            }
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // SAFETY: takes the connection out of epoll, closes the descriptor and gives the connection back to nginx.
        unsafe { ffi::ngx_ws_close_pipe(self.connection) };
    }
}

/// nginx's watch over a descriptor that somebody else owns.
pub struct Watch {
    pipe: Pipe,
}

impl Watch {
    /// Calls `handler` whenever there is something to read, with events whose connection has `data`.
    ///
    /// # Errors
    ///
    /// No connection is free, or epoll refuses.
    pub fn new(fd: BorrowedFd<'_>, handler: Handler, data: *mut c_void, log: *mut ffi::ngx_log_t) -> io::Result<Self> {
        // nginx closes what it watches: it gets a duplicate. Both must be closed for the other side to see the end.
        let mut pipe = Pipe::new(fd.try_clone_to_owned()?, handler, data, log)?;
        if !pipe.watch_read(true) {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        Ok(Watch { pipe })
    }

    /// Calls `handler` once for each time that something to read arrives; nobody has to read it.
    ///
    /// # Errors
    ///
    /// No connection is free, or epoll refuses.
    pub fn of_arrivals(fd: BorrowedFd<'_>, handler: Handler, log: *mut ffi::ngx_log_t) -> io::Result<Self> {
        let pipe = Pipe::new(fd.try_clone_to_owned()?, handler, ptr::null_mut(), log)?;
        // SAFETY: the event belongs to our connection. nginx watches edge-triggered here.
        if unsafe { ffi::ngx_handle_read_event(pipe.read_event(), 0) } != Status::OK {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        Ok(Watch { pipe })
    }

    /// Asks to be called when the descriptor can be written, or not.
    pub fn write_when(&mut self, wanted: bool) {
        if wanted {
            // SAFETY: the event belongs to our connection, which drop gives back.
            unsafe { ffi::ngx_ws_add_edge_write(self.pipe.write_event()) };
        }
    }
}
