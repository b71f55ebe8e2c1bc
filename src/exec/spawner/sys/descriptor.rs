//! Descriptors of the calling process.

use std::ffi::c_int;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

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

/// What a descriptor is watched for.
pub(in crate::exec::spawner) struct Watch<'a> {
    /// Without one nothing happens on it.
    pub(in crate::exec::spawner) descriptor: Option<BorrowedFd<'a>>,
    pub(in crate::exec::spawner) events: i16,
}

/// Waits for events on descriptors, at most for this time; returns what happened on each.
pub(in crate::exec::spawner) fn wait<const N: usize>(watches: [Watch<'_>; N], timeout_ms: Option<u64>) -> [i16; N] {
    let mut polled = watches.map(|watch| libc::pollfd {
        fd: watch.descriptor.map_or(-1, |descriptor| descriptor.as_raw_fd()),
        events: watch.events,
        revents: 0,
    });
    let timeout = timeout_ms.map_or(-1, |ms| c_int::try_from(ms).unwrap_or(c_int::MAX));
    // SAFETY: `polled` has the length that is said. An error, which can only be an interruption, leaves it as it was.
    unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, timeout) };
    polled.map(|entry| entry.revents)
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
        // SAFETY: as above. The directory that was read is closed already, which is refused without harm.
        unsafe { libc::close(descriptor as c_int) };
    }
    Ok(())
}
