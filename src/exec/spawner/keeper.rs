// SPDX-License-Identifier: Apache-2.0

//! The keeper: a process of root's that makes spawners for other users (`websocket_exec_user`).
//!
//! A worker cannot start programs as another user, and must not be able to. So where a configuration names users, the
//! process that reads it, which is root's, makes a keeper for it. The keeper has no right but to change users and groups, no
//! descriptor but its socket, and a list of accounts that never changes. All workers of the configuration share the other
//! end of the socket.
//!
//! There is one request: a number in that list, with one end of a socket pair. The keeper makes a process that becomes the
//! account for good and then guard and spawner at that end. Nothing that a worker sends is looked at but the number: no path,
//! no argument, no variable and no user. Whoever controls a worker can have programs started as the users of the
//! configuration, as the worker can anyway, and as nobody else.
//!
//! The keeper ends with the last process that has the other end: the master and the workers of its configuration. It is a
//! child of none of them, so that nginx's handler of SIGCHLD has nothing to say about it.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::account::Account;
use super::launch::{self, Baseline, Role};
use super::sys::{self, Packet, SignalSet, Watches, privileges};
use super::wire;
use super::{Failure, StartStep};

/// Milliseconds that the keeper may take to begin. What it does until then cannot wait for anything.
const BEGINNING: u64 = 10_000;

/// The end of a keeper's socket that the workers have.
#[derive(Debug)]
pub struct Keeper {
    socket: OwnedFd,
}

impl Keeper {
    /// Makes a keeper that makes spawners for these accounts and no others. The calling process is root's.
    ///
    /// `baseline` and `in_child` are those of [`Spawner::launch`](super::Spawner::launch), for the spawners.
    ///
    /// # Errors
    ///
    /// What fork(2) and socketpair(2) say; EPERM if the process lacks one of the rights that the keeper needs.
    pub fn start(accounts: &[Account], baseline: &Baseline, in_child: impl FnMut(Role)) -> io::Result<Self> {
        let (ours, theirs) = sys::socket_pair()?;
        let mask = sys::set_signal_mask(&SignalSet::all());
        // SAFETY: the child calls `become_keeper`, which never returns into this function's callers.
        let forked = unsafe { sys::fork_without_signal() };
        if let Ok(0) = forked {
            become_keeper(theirs, accounts, baseline, in_child);
        }
        sys::set_signal_mask(&mask);
        let between = forked?;
        drop(theirs);
        let begun = hear(&ours);
        sys::wait_silent(between);
        begun.map(|()| Self { socket: ours })
    }

    /// Asks for a spawner for the account of this number. Returns the worker's end of its socket, without waiting: what the
    /// keeper has to say comes over that.
    ///
    /// # Errors
    ///
    /// The keeper is gone (EPIPE), or has not looked at its requests for a long time (EAGAIN), or there are no descriptors
    /// left.
    pub(super) fn ask(&self, account: u32) -> io::Result<OwnedFd> {
        let (ours, theirs) = sys::socket_pair()?;
        sys::send(self.socket.as_fd(), &wire::write_account(account), &[theirs.as_fd()])?;
        Ok(ours)
    }
}

/// Waits until the keeper has begun.
fn hear(socket: &OwnedFd) -> io::Result<()> {
    let mut watches = Watches::default();
    watches.add(Some(socket.as_fd()), libc::POLLIN);
    watches.wait(Some(BEGINNING));
    let mut packet = [0; wire::REPORT];
    let received = sys::receive(socket.as_fd(), &mut packet)?.ok_or(io::ErrorKind::TimedOut)?;
    match packet.get(..received.length).and_then(wire::read_greeting) {
        Some(wire::Greeting::Ready(_)) => Ok(()),
        Some(wire::Greeting::Unable(failure)) => Err(io::Error::from_raw_os_error(failure.errno)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The process between: makes the keeper and ends, so that the keeper is nobody's child.
fn become_keeper(socket: OwnedFd, accounts: &[Account], baseline: &Baseline, mut in_child: impl FnMut(Role)) -> ! {
    let result = catch_unwind(AssertUnwindSafe(|| {
        std::panic::set_hook(Box::new(|_| {}));
        privileges::hide_memory();
        // SAFETY: there is one thread, and neither side returns into the caller's code.
        if sys::check(unsafe { libc::fork() })? != 0 {
            return Ok(());
        }
        match prepare(&socket) {
            Ok(()) => {
                in_child(Role::Keeper);
                sys::send(socket.as_fd(), &wire::write_ready(std::process::id() as i32), &[])?;
                serve(socket, accounts, baseline, in_child)
            }
            Err(error) => {
                let failure = Failure { stage: StartStep::User, errno: error.raw_os_error().unwrap_or(libc::EPERM) };
                sys::send(socket.as_fd(), &wire::write_unable(failure), &[])
            }
        }
    }));
    launch::exit(if matches!(result, Ok(Ok(()))) { 0 } else { 1 })
}

/// Lets go of everything that a keeper does not need.
fn prepare(socket: &OwnedFd) -> io::Result<()> {
    sys::close_all_but(socket.as_fd())?;
    sys::reset_dispositions();
    // Guards that have ended are reaped by the system.
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    // SAFETY: these calls concern the calling process only, which has just been made; the strings end with NUL. The terminal
    // that nginx was started on is left with the session.
    unsafe {
        libc::setsid();
        libc::chdir(c"/".as_ptr());
        libc::prctl(libc::PR_SET_NAME, c"ws-exec-keeper".as_ptr());
    }
    privileges::keep_ids_only()
}

/// Deals with requests until nobody is left to make one.
fn serve(socket: OwnedFd, accounts: &[Account], baseline: &Baseline, mut in_child: impl FnMut(Role)) -> io::Result<()> {
    let mut watches = Watches::default();
    loop {
        watches.clear();
        watches.add(Some(socket.as_fd()), libc::POLLIN);
        watches.wait(None);
        // An empty packet is no end.
        if watches.events(0) & (libc::POLLHUP | libc::POLLERR) != 0 {
            return Ok(());
        }
        // One octet more than a request has: a longer one is none.
        let mut buffer = [0; wire::ACCOUNT + 1];
        let Some(packet) = sys::receive(socket.as_fd(), &mut buffer)? else { continue };
        let Some((account, end)) = read(&buffer, packet, accounts) else { continue };
        // SAFETY: there is one thread, and the child does not return from `become_guard`.
        match unsafe { libc::fork() } {
            0 => launch::become_guard(end, Some(account), baseline, &mut in_child),
            -1 => {
                let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN);
                // The worker may be gone.
                let _ = sys::send(end.as_fd(), &wire::write_unable(Failure { stage: StartStep::Fork, errno }), &[]);
            }
            _ => {}
        }
    }
}

/// Reads a request; `None` if it is not one. Descriptors that come with something else are closed.
fn read<'a>(buffer: &[u8], packet: Packet, accounts: &'a [Account]) -> Option<(&'a Account, OwnedFd)> {
    let number = buffer.get(..packet.length).and_then(wire::read_account)?;
    let account = accounts.get(usize::try_from(number).ok()?)?;
    let [end]: [OwnedFd; 1] = packet.descriptors.try_into().ok()?;
    (!packet.truncated && is_packet_socket(&end)).then_some((account, end))
}

/// Whether it is a socket as [`sys::socket_pair`] makes them.
fn is_packet_socket(end: &OwnedFd) -> bool {
    let option = |name: c_int| {
        let (mut value, mut length): (c_int, libc::socklen_t) = (0, size_of::<c_int>() as libc::socklen_t);
        let to = (&raw mut value).cast();
        // SAFETY: the option is an integer, for which there is room as is said.
        let result = unsafe { libc::getsockopt(end.as_raw_fd(), libc::SOL_SOCKET, name, to, &raw mut length) };
        (result == 0).then_some(value)
    };
    option(libc::SO_DOMAIN) == Some(libc::AF_UNIX) && option(libc::SO_TYPE) == Some(libc::SOCK_SEQPACKET)
}

#[cfg(not(miri))]
#[cfg(test)]
mod tests {
    use super::super::client::Spawner;
    use super::*;
    use std::fs::File;
    use std::os::fd::BorrowedFd;

    fn accounts() -> Vec<Account> {
        [1, 2].map(|id| Account { uid: id, gid: id, groups: vec![id] }).to_vec()
    }

    /// What a keeper makes of a packet: the user, if it is a request.
    fn made_of(packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> Option<u32> {
        let (worker, keeper) = sys::socket_pair().unwrap();
        sys::send(worker.as_fd(), packet, descriptors).unwrap();
        let mut buffer = [0; wire::ACCOUNT + 1];
        let received = sys::receive(keeper.as_fd(), &mut buffer).unwrap().unwrap();
        read(&buffer, received, &accounts()).map(|(account, _)| account.uid)
    }

    #[test]
    fn a_number_of_the_list_with_a_socket_is_a_request() {
        let (_ours, theirs) = sys::socket_pair().unwrap();
        for (number, uid) in [(0, 1), (1, 2)] {
            assert_eq!(made_of(&wire::write_account(number), &[theirs.as_fd()]), Some(uid));
        }
    }

    #[test]
    fn anything_else_is_not() {
        let (_ours, theirs) = sys::socket_pair().unwrap();
        let socket = theirs.as_fd();
        for number in [2, 3, 1000, u32::MAX, 1 << 31] {
            assert_eq!(made_of(&wire::write_account(number), &[socket]), None, "{number}");
        }
        let request = wire::write_account(0);
        assert_eq!(made_of(&request, &[]), None, "no descriptor");
        assert_eq!(made_of(&request, &[socket, socket]), None, "several descriptors");
        assert_eq!(made_of(&request, &[socket; sys::MAX_DESCRIPTORS]), None, "many descriptors");
        let file = File::open("/dev/null").unwrap();
        assert_eq!(made_of(&request, &[file.as_fd()]), None, "no socket");
        let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(made_of(&request, &[stream.as_fd()]), None, "a socket of another kind");
        for length in 0..request.len() {
            assert_eq!(made_of(&request[..length], &[socket]), None, "{length} octets");
        }
        assert_eq!(made_of(&[&request[..], &[0]].concat(), &[socket]), None, "one octet more");
        for length in [1, 4, 5, 8, 64, 4096] {
            for octet in [1, 0x7F, 0xFF] {
                let garbage = vec![octet; length];
                assert_eq!(made_of(&garbage, &[socket]), None, "{length} times {octet}");
            }
        }
    }

    /// Waits for what the spawner at the other end says first.
    fn first_word(spawner: &mut Spawner) -> io::Result<Option<i32>> {
        let mut watches = Watches::default();
        watches.add(Some(spawner.fd()), libc::POLLIN);
        watches.wait(Some(20_000));
        spawner.receive().map(|_| spawner.pid())
    }

    #[test]
    fn a_keeper_outlives_nonsense() {
        // SAFETY: geteuid takes no pointer and always succeeds.
        if unsafe { libc::geteuid() } != 0 {
            return;
        }
        let keeper = Keeper::start(&accounts(), &Baseline::capture(), |_| {}).unwrap();
        let socket = keeper.socket.as_fd();
        let (ours, theirs) = sys::socket_pair().unwrap();
        for packet in [&b""[..], b"\0", b"\x02\0\0\0", b"\xff\xff\xff\xff", &[0; 300]] {
            sys::send(socket, packet, &[]).unwrap();
            sys::send(socket, packet, &[theirs.as_fd()]).unwrap();
        }
        sys::send(socket, &wire::write_account(0), &[theirs.as_fd(), ours.as_fd()]).unwrap();
        let mut refused = Spawner::launch_as(&keeper, 7).unwrap();
        let error = first_word(&mut refused).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
        for (number, uid) in [(0, 1), (1, 2)] {
            let mut spawner = Spawner::launch_as(&keeper, number).unwrap();
            let pid = first_word(&mut spawner).unwrap().unwrap();
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            assert!(status.contains(&format!("\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")), "{status}");
            assert!(status.contains("\nCapPrm:\t0000000000000000\n"), "{status}");
        }
        drop((refused, theirs));
        assert!(sys::receive(ours.as_fd(), &mut [0; 8]).is_ok_and(|packet| packet.is_some_and(|end| end.length == 0)));
    }
}
