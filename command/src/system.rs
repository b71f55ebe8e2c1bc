// SPDX-License-Identifier: Apache-2.0

//! System calls that the standard library has no function for.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int};
use std::io;
use std::mem;
use std::net::IpAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;
use std::time::Duration;

/// The signals that end this command, and the one that tells of nginx's end.
const AWAITED: [c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGCHLD];

fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn c_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

fn set_of(signals: &[c_int]) -> libc::sigset_t {
    // SAFETY: sigemptyset initializes the set that it gets a pointer to, and the signals are valid numbers.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

/// From now on, in this thread and those that it starts, the signals wait to be asked for by [`wait_for_signal`].
pub fn hold_signals() {
    let set = set_of(&AWAITED);
    // SAFETY: the set is initialized, and the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) };
}

/// The next signal, or `None` after this time.
pub fn wait_for_signal(time: Duration) -> Option<c_int> {
    let set = set_of(&AWAITED);
    let time = libc::timespec { tv_sec: time.as_secs() as libc::time_t, tv_nsec: time.subsec_nanos().into() };
    // SAFETY: set and time are initialized and outlive the call; what the signal says of itself is not asked for.
    let signal = unsafe { libc::sigtimedwait(&raw const set, ptr::null_mut(), &raw const time) };
    (signal > 0).then_some(signal)
}

pub fn is_child_signal(signal: c_int) -> bool {
    signal == libc::SIGCHLD
}

/// The process starts with no signal held back.
pub fn with_default_signals(command: &mut Command) {
    let none = set_of(&[]);
    // SAFETY: between fork and exec only sigprocmask is called, which is async-signal-safe and gets an initialized set.
    unsafe {
        command
            .pre_exec(move || check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut())).map(drop))
    };
}

/// The process is told to end when the thread that starts it does, however that ends.
pub fn ends_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec only prctl is called, which is a bare system call.
    unsafe { command.pre_exec(|| check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM)).map(drop)) };
}

/// What is left without a parent below this process becomes its child, so that its end can be awaited.
pub fn adopt_descendants() {
    // SAFETY: this prctl takes a number and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// Takes the status of each child that has ended. False if there are no children any more.
pub fn reap() -> bool {
    loop {
        // SAFETY: the status is not asked for.
        match unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) } {
            0 => return true,
            -1 => return false,
            _ => {}
        }
    }
}

/// The signals that nginx is told to end by: gracefully, at once, and not by its own doing.
#[derive(Clone, Copy)]
pub enum Stop {
    Quit,
    Terminate,
    Kill,
}

pub fn stop(process: u32, how: Stop) {
    let signal = match how {
        Stop::Quit => libc::SIGQUIT,
        Stop::Terminate => libc::SIGTERM,
        Stop::Kill => libc::SIGKILL,
    };
    // SAFETY: kill touches no memory. The process is a child that has not been waited for, so that the number is still its own.
    unsafe { libc::kill(process as libc::pid_t, signal) };
}

/// Ends a process group at once.
pub fn kill_group(leader: u32) {
    // SAFETY: kill touches no memory. The leader is a child that has not been waited for, so that the number is still its own.
    unsafe { libc::kill(-(leader as libc::pid_t), libc::SIGKILL) };
}

/// A new directory for this user only.
pub fn make_directory(parent: &Path) -> io::Result<PathBuf> {
    let mut template = c_string(&parent.join("ws-exec.XXXXXX"))?.into_bytes_with_nul();
    // SAFETY: the template ends with a zero, is writable, and mkdtemp changes its six last letters only.
    if unsafe { libc::mkdtemp(template.as_mut_ptr().cast::<c_char>()) }.is_null() {
        return Err(io::Error::last_os_error());
    }
    template.pop();
    Ok(PathBuf::from(OsString::from_vec(template)))
}

pub fn make_fifo(path: &Path) -> io::Result<()> {
    let path = c_string(path)?;
    // SAFETY: the path ends with a zero and outlives the call.
    check(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }).map(drop)
}

pub fn is_root() -> bool {
    // SAFETY: geteuid touches no memory and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// How many files a process of this user may open at most, if it asks for it.
pub fn max_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit writes to the limit only.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == -1 { 1024 } else { limit.rlim_max }
}

/// Whether this file may be executed by this process.
pub fn is_executable(path: &Path) -> bool {
    let Ok(path) = c_string(path) else { return false };
    // SAFETY: the path ends with a zero and outlives the call.
    unsafe { libc::access(path.as_ptr(), libc::X_OK) == 0 }
}

/// The name of an address, by the system's own means (getnameinfo).
pub fn name_of(address: IpAddr) -> Option<OsString> {
    let mut name = [0_u8; 1025];
    let mut ask = |address: *const libc::sockaddr, length: usize| {
        // SAFETY: the address has this length and outlives the call; the name is written into the array, whose length is told.
        unsafe {
            libc::getnameinfo(
                address,
                length as libc::socklen_t,
                name.as_mut_ptr().cast::<c_char>(),
                name.len() as libc::socklen_t,
                ptr::null_mut(),
                0,
                libc::NI_NAMEREQD,
            )
        }
    };
    let failed = match address {
        IpAddr::V4(address) => {
            // SAFETY: all zero is a valid sockaddr_in.
            let mut v4: libc::sockaddr_in = unsafe { mem::zeroed() };
            v4.sin_family = libc::AF_INET as libc::sa_family_t;
            v4.sin_addr.s_addr = u32::from_ne_bytes(address.octets());
            ask((&raw const v4).cast(), mem::size_of_val(&v4))
        }
        IpAddr::V6(address) => {
            // SAFETY: all zero is a valid sockaddr_in6.
            let mut v6: libc::sockaddr_in6 = unsafe { mem::zeroed() };
            v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            v6.sin6_addr.s6_addr = address.octets();
            ask((&raw const v6).cast(), mem::size_of_val(&v6))
        }
    };
    let name = CStr::from_bytes_until_nul(&name).ok().filter(|_| failed == 0)?;
    Some(OsStr::from_bytes(name.to_bytes()).to_os_string())
}
