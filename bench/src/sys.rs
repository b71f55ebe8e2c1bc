// SPDX-License-Identifier: Apache-2.0

//! The system calls that the standard library does not wrap. The only file with `unsafe` in it.
#![allow(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// Readable, or the peer has sent its end of file.
pub const IN: u32 = libc::EPOLLIN as u32;
/// Writable.
pub const OUT: u32 = libc::EPOLLOUT as u32;

/// One ready descriptor.
pub type Event = libc::epoll_event;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A level-triggered epoll set.
pub struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    /// What `epoll_create1(2)` reports.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor was just created and nothing else owns it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    fn control(&self, operation: libc::c_int, fd: &impl AsFd, interest: u32, token: u64) -> io::Result<()> {
        let mut event = Event { events: interest, u64: token };
        // SAFETY: `event` lives through the call; the kernel copies it.
        let result = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd.as_fd().as_raw_fd(), &raw mut event) };
        check(result).map(drop)
    }

    /// Watches `fd` for `interest` ([`IN`], [`OUT`]); its events carry `token`.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` reports.
    pub fn add(&self, fd: &impl AsFd, interest: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, interest, token)
    }

    /// Changes what `fd` is watched for.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` reports.
    pub fn modify(&self, fd: &impl AsFd, interest: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, interest, token)
    }

    /// Forgets `fd`.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` reports.
    pub fn remove(&self, fd: &impl AsFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    /// Fills `events` with at most its capacity of ready descriptors; empty when `timeout` has passed.
    ///
    /// # Errors
    /// What `epoll_wait(2)` reports, interruptions excepted.
    pub fn wait(&self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        let capacity = i32::try_from(events.capacity()).unwrap_or(i32::MAX);
        let timeout = timeout.map_or(-1, |t| i32::try_from(t.as_millis()).unwrap_or(i32::MAX));
        // SAFETY: the buffer has room for `capacity` events.
        match check(unsafe { libc::epoll_wait(self.fd.as_raw_fd(), events.as_mut_ptr(), capacity, timeout) }) {
            // SAFETY: the kernel has filled that many events.
            Ok(ready) => unsafe { events.set_len(ready as usize) },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn sockaddr(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}

const SOCKADDR_LEN: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

fn set_option(fd: &OwnedFd, level: libc::c_int, name: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `on` is an int that lives through the call, and its size is given.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const on).cast(), length) }).map(drop)
}

/// Connects from `source` to `target`, with Nagle's algorithm off. The port is chosen per target, so each source address has its
/// own range of ports. The socket is a blocking one.
///
/// # Errors
/// What `socket(2)`, `bind(2)` and `connect(2)` report.
pub fn connect(source: Ipv4Addr, target: SocketAddrV4) -> io::Result<TcpStream> {
    // SAFETY: takes no pointers.
    let fd = check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor was just created and nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    set_option(&fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT)?;
    set_option(&fd, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
    let address = sockaddr(SocketAddrV4::new(source, 0));
    // SAFETY: `address` is a sockaddr_in of the given length.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), SOCKADDR_LEN) })?;
    let address = sockaddr(target);
    // SAFETY: `address` is a sockaddr_in of the given length.
    check(unsafe { libc::connect(fd.as_raw_fd(), (&raw const address).cast(), SOCKADDR_LEN) })?;
    Ok(TcpStream::from(fd))
}

/// A non-blocking listening socket with room for a burst of connections.
///
/// # Errors
/// What `socket(2)`, `bind(2)` and `listen(2)` report.
pub fn listen(address: SocketAddrV4) -> io::Result<TcpListener> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes no pointers.
    let fd = check(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
    // SAFETY: the descriptor was just created and nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    let address = sockaddr(address);
    // SAFETY: `address` is a sockaddr_in of the given length.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), SOCKADDR_LEN) })?;
    // SAFETY: takes no pointers.
    check(unsafe { libc::listen(fd.as_raw_fd(), 4096) })?;
    Ok(TcpListener::from(fd))
}

/// The place of the first `octet` in `input`.
pub fn find_octet(octet: u8, input: &[u8]) -> Option<usize> {
    // SAFETY: looks at no more than the slice's octets.
    let found = unsafe { libc::memchr(input.as_ptr().cast(), libc::c_int::from(octet), input.len()) };
    (!found.is_null()).then(|| found.addr() - input.as_ptr().addr())
}

/// Makes a pipe's end non-blocking.
///
/// # Errors
/// What `fcntl(2)` reports.
pub fn set_nonblocking(fd: &impl AsFd) -> io::Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: takes no pointers.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: takes no pointers.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// CPU time, user and system, that all threads of process `pid` have used, those that have ended included.
///
/// # Errors
/// When there is no such process.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` lives through the call.
    let result = unsafe { libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives through the call.
    check(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    Ok(Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0)))
}

/// Clock ticks a second, the unit of the times in `/proc/<pid>/stat`.
pub fn ticks_per_second() -> u64 {
    // SAFETY: takes no pointers.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100)
}

/// Raises the limit on open descriptors to `wanted`, for this process and those it starts, or to the hard limit where that is less and
/// the process may not raise it. Returns the limit.
///
/// # Errors
/// What `setrlimit(2)` reports.
pub fn raise_descriptor_limit(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives through the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    if limit.rlim_max < wanted {
        let raised = libc::rlimit { rlim_cur: wanted, rlim_max: wanted };
        // SAFETY: `raised` lives through the call.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            return Ok(wanted);
        }
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` lives through the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

/// Sends `signal` to process `pid`.
///
/// # Errors
/// What `kill(2)` reports.
pub fn kill(pid: u32, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::kill(pid.cast_signed(), signal) }).map(drop)
}

/// Has `command` start a process as a service manager would: in a session of its own, so that the scheduler (its autogroups) sees the
/// server and its programs apart from the client. It receives SIGTERM when this process dies: none outlives the benchmark.
pub fn as_service(command: &mut Command) {
    let prepare = || {
        // SAFETY: takes no pointers.
        check(unsafe { libc::setsid() })?;
        // SAFETY: takes no pointers.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) }).map(drop)
    };
    // SAFETY: the closure makes system calls only and touches no memory of the parent.
    unsafe { command.pre_exec(prepare) };
}
