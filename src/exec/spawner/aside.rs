// SPDX-License-Identifier: Apache-2.0

//! A process beside the worker that may wait where the worker must not.
//!
//! It is made as the spawner is, and like that it lets go of everything of the worker but one end of a socket, whose other end
//! is also the worker's sign of life. It starts nothing and has no guard: when the worker is gone it does what it has been
//! given to do, and ends.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::launch::{self, Baseline, Role};
use super::sys::{self, SignalSet, Watches};

thread_local! {
    /// Processes that had not ended when they were looked at last.
    static UNREAPED: RefCell<Vec<i32>> = const { RefCell::new(Vec::new()) };
}

/// Such a process, as its worker sees it. When it is dropped the process sees the end of the socket.
#[derive(Debug)]
pub struct SideProcess {
    socket: OwnedFd,
    /// Our child, which ends without a signal, and is not reaped yet.
    pid: i32,
}

impl SideProcess {
    /// Makes the process. `serve` is what it does with its end of the socket; when that returns it ends. `in_child` is that of
    /// [`Spawner::launch`](super::Spawner::launch).
    ///
    /// # Errors
    ///
    /// What fork(2) and socketpair(2) say.
    pub fn launch(
        role: Role,
        baseline: &Baseline,
        in_child: impl FnOnce(Role),
        serve: impl FnOnce(OwnedFd) -> io::Result<()>,
    ) -> io::Result<Self> {
        reap();
        let (ours, theirs) = sys::socket_pair()?;
        sys::widen(ours.as_fd());
        let mask = sys::set_signal_mask(&SignalSet::all());
        // SAFETY: the child ends in this branch and never returns into this function's callers.
        let forked = unsafe { sys::fork_without_signal() };
        if let Ok(0) = forked {
            let served = catch_unwind(AssertUnwindSafe(|| {
                // A hook of the worker would write to descriptors that mean something else here.
                std::panic::set_hook(Box::new(|_| {}));
                launch::prepare_aside(&theirs, baseline)?;
                in_child(role);
                serve(theirs)
            }));
            launch::exit(if matches!(served, Ok(Ok(()))) { 0 } else { 1 });
        }
        sys::set_signal_mask(&mask);
        Ok(Self { socket: ours, pid: forked? })
    }

    /// The number of the process.
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// The socket, for watching it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends a packet, without waiting. `false`: it was not sent, as there is no room now.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn send(&self, packet: &[u8]) -> io::Result<bool> {
        match sys::send(self.fd(), packet, &[]) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.raw_os_error().is_some_and(super::is_exhaustion) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Receives a packet, without waiting; `None` if there is none. Returns its length.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn receive(&self, packet: &mut [u8]) -> io::Result<Option<usize>> {
        match sys::receive(self.fd(), packet)? {
            Some(received) if received.length == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            received => Ok(received.map(|received| received.length)),
        }
    }

    /// Waits until a packet may be sent or there is one to be received, at most for this time.
    pub fn wait(&self, milliseconds: u64) {
        let mut watches = Watches::default();
        watches.add(Some(self.fd()), libc::POLLIN | libc::POLLOUT);
        watches.wait(Some(milliseconds));
    }
}

impl Drop for SideProcess {
    fn drop(&mut self) {
        if !sys::reap_silent(self.pid) {
            UNREAPED.with_borrow_mut(|unreaped| unreaped.push(self.pid));
        }
    }
}

/// Reaps processes that have ended meanwhile.
fn reap() {
    UNREAPED.with_borrow_mut(|unreaped| unreaped.retain(|pid| !sys::reap_silent(*pid)));
}

#[cfg(not(miri))]
#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::time::{Duration, Instant};

    /// Answers each packet with what it was, until there are no more.
    fn answer(socket: OwnedFd) -> io::Result<()> {
        let mut socket = File::from(socket);
        let mut packet = [0; 64];
        loop {
            match socket.read(&mut packet)? {
                0 => return Ok(()),
                length => socket.write_all(&packet[..length])?,
            }
        }
    }

    fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(begin.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn it_serves_until_its_worker_lets_go() {
        let baseline = Baseline::capture();
        let process = SideProcess::launch(Role::Recorder, &baseline, |_| {}, answer).unwrap();
        let pid = process.pid();
        assert!(process.send(b"packet").unwrap());
        let mut packet = [0; 64];
        let length = until(|| process.receive(&mut packet).unwrap());
        assert_eq!(&packet[..length], b"packet");
        assert!(process.receive(&mut packet).unwrap().is_none());
        drop(process);
        until(|| {
            reap();
            UNREAPED.with_borrow(|unreaped| !unreaped.contains(&pid)).then_some(())
        });
    }

    #[test]
    fn what_one_has_said_is_heard_although_it_has_not_heard_all() {
        let said = |socket| File::from(socket).write_all(b"last words");
        let process = SideProcess::launch(
            Role::Recorder,
            &Baseline::capture(),
            |_| {},
            |socket: OwnedFd| {
                // It ends while a packet waits for it.
                let mut watches = Watches::default();
                watches.add(Some(socket.as_fd()), libc::POLLIN);
                watches.wait(Some(10_000));
                said(socket)
            },
        )
        .unwrap();
        assert!(process.send(b"unheard").unwrap());
        let mut watches = Watches::default();
        watches.add(Some(process.fd()), libc::POLLHUP);
        until(|| {
            watches.wait(Some(100));
            (watches.events(0) & libc::POLLHUP != 0).then_some(())
        });
        let mut packet = [0; 64];
        let length = process.receive(&mut packet).unwrap().unwrap();
        assert_eq!(&packet[..length], b"last words");
        assert!(process.receive(&mut packet).is_err());
    }

    #[test]
    fn one_that_ends_is_gone() {
        let process = SideProcess::launch(Role::Recorder, &Baseline::capture(), |_| {}, |_| Ok(())).unwrap();
        let mut packet = [0; 64];
        until(|| process.receive(&mut packet).is_err().then_some(()));
        assert!(process.send(b"packet").is_err());
    }
}
