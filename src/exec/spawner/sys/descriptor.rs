// SPDX-License-Identifier: Apache-2.0

//! Descriptors of the calling process.

use std::ffi::c_int;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::check;

/// A file in memory with this content, its offset at the end.
pub(in crate::exec::spawner) fn memory_file(content: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: the name is a string that ends with NUL.
    let descriptor = check(unsafe { libc::memfd_create(c"ngx_ws_exec".as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: it has just been opened and belongs to nobody else.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
    file.write_all(content)?;
    Ok(file.into())
}

/// Descriptors that are watched, and what happened on them.
#[derive(Default)]
pub(in crate::exec::spawner) struct Watches(Vec<libc::pollfd>);

impl Watches {
    pub(in crate::exec::spawner) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds one; without a descriptor nothing happens on it.
    pub(in crate::exec::spawner) fn add(&mut self, descriptor: Option<BorrowedFd<'_>>, events: i16) {
        let fd = descriptor.map_or(-1, |descriptor| descriptor.as_raw_fd());
        self.0.push(libc::pollfd { fd, events, revents: 0 });
    }

    /// Waits for events, at most for this time.
    pub(in crate::exec::spawner) fn wait(&mut self, timeout_ms: Option<u64>) {
        let timeout = timeout_ms.map_or(-1, |ms| c_int::try_from(ms).unwrap_or(c_int::MAX));
        // SAFETY: the list has the length that is said. An error, which can only be an interruption, leaves it as it was.
        unsafe { libc::poll(self.0.as_mut_ptr(), self.0.len() as libc::nfds_t, timeout) };
    }

    /// What happened on the descriptor that was added as this one, counted from 0.
    pub(in crate::exec::spawner) fn events(&self, index: usize) -> i16 {
        self.0.get(index).map_or(0, |entry| entry.revents)
    }
}

/// Two ends of a pipe that do not block, the one that is read first.
pub(in crate::exec::spawner) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` has room for the two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    let [reader, writer] = ends;
    // SAFETY: both have just been opened and belong to nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(reader), OwnedFd::from_raw_fd(writer)) })
}

/// The same with a number above `limit`, and closed when a program is executed: itself, if its number is one already.
pub(in crate::exec::spawner) fn move_above(limit: RawFd, descriptor: OwnedFd) -> io::Result<OwnedFd> {
    if descriptor.as_raw_fd() > limit {
        return Ok(descriptor);
    }
    // SAFETY: the descriptor is open, as it is owned; the lowest number that may be taken is any number.
    let moved = check(unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, limit + 1) })?;
    // SAFETY: it has just been opened and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(moved) })
}

/// Reads what is there.
pub(in crate::exec::spawner) fn read(from: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is writable for its length.
    let count = unsafe { libc::read(from.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Closes every descriptor but `kept`, and makes 0, 1 and 2 the null device.
pub(in crate::exec::spawner) fn close_all_but(kept: BorrowedFd<'_>) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    for standard in 0..3 {
        if standard != kept.as_raw_fd() {
            // SAFETY: dup2 takes any numbers; what it replaces is about to be closed anyway.
            check(unsafe { libc::dup2(null.as_raw_fd(), standard) })?;
        }
    }
    // It is one of those that are closed below, if it is not one of the three.
    std::mem::forget(null);
    let kept = u32::try_from(kept.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
    close_range(3, kept.saturating_sub(1).max(2))?;
    close_range(kept.max(2) + 1, u32::MAX)
}

/// Closes the descriptors from `first` to `last`.
fn close_range(first: u32, last: u32) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: the caller has no use for these descriptors any more.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
        return Ok(());
    }
    // Linux before 5.9.
    let open: Vec<u32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| (first..=last).contains(descriptor))
        .collect();
    for descriptor in open {
        // SAFETY: the caller has no use for these descriptors. The one of the directory that was read is closed already: closing it
        // again is refused without harm, as the process has one thread.
        unsafe { libc::close(descriptor as c_int) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn file() -> OwnedFd {
        memory_file(b"content").unwrap()
    }

    #[test]
    fn only_what_is_in_the_way_is_moved() {
        let [lower, higher] = [file(), file()];
        let limit = lower.as_raw_fd().max(higher.as_raw_fd());
        let above = file();
        let number = above.as_raw_fd();
        if number > limit {
            assert_eq!(move_above(limit, above).unwrap().as_raw_fd(), number);
        }
        for descriptor in [lower, higher] {
            let moved = move_above(limit, descriptor).unwrap();
            assert!(moved.as_raw_fd() > limit);
            // SAFETY: the descriptor is open; nothing is passed.
            assert_eq!(unsafe { libc::fcntl(moved.as_raw_fd(), libc::F_GETFD) }, libc::FD_CLOEXEC);
            assert_eq!(File::from(moved).metadata().unwrap().len(), 7, "another file");
        }
    }
}
