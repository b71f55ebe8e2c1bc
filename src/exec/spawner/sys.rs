//! The system calls of worker and spawner, in forms that are safe to use.

use std::ffi::{CStr, c_int, c_void};
use std::fs::File;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::ExitStatus;
use super::groups::Reach;

/// A result of the C library: -1 says that `errno` has the error.
pub(super) fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Calls again when a signal came in between.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Two connected sockets that keep packets apart and in order.
pub(super) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut pair = [-1; 2];
    // SAFETY: `pair` has room for the two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, pair.as_mut_ptr()) })?;
    let [a, b] = pair;
    // SAFETY: both have just been opened and belong to nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(a), OwnedFd::from_raw_fd(b)) })
}

/// Descriptors that one packet may carry: three for the program, one for its directory, one for a request that is too
/// long.
pub(super) const MAX_DESCRIPTORS: usize = 5;

/// Room for the control message with [`MAX_DESCRIPTORS`] descriptors, aligned for its header.
#[repr(C, align(8))]
struct Control([u8; 64]);

const _: () = {
    // SAFETY: CMSG_SPACE only computes.
    let needed = unsafe { libc::CMSG_SPACE((MAX_DESCRIPTORS * size_of::<RawFd>()) as u32) };
    assert!(needed as usize <= size_of::<Control>());
    assert!(align_of::<libc::cmsghdr>() <= align_of::<Control>());
};

/// Sends one packet with descriptors, without waiting.
pub(super) fn send(socket: BorrowedFd<'_>, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut part = libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
    let mut control = Control([0; 64]);
    // SAFETY: an msghdr of zeros is a valid one.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !descriptors.is_empty() {
        let length = size_of_val(descriptors) as u32;
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE only computes.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(length) } as _;
        // SAFETY: the control buffer has room for a header and MAX_DESCRIPTORS descriptors, asserted above, so
        // CMSG_FIRSTHDR is not null and CMSG_DATA has room for all of `descriptors`.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(length) as _;
            let data = libc::CMSG_DATA(header).cast::<RawFd>();
            for (n, descriptor) in descriptors.iter().enumerate() {
                data.add(n).write_unaligned(descriptor.as_raw_fd());
            }
        }
    }
    retry(|| {
        // SAFETY: the message points to `part` and `control`, which live until the call returns.
        let sent =
            unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
        if sent == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    })
}

/// A packet that was received.
pub(super) struct Packet {
    /// Its length in the buffer; 0 is the end.
    pub(super) length: usize,
    /// What came with it, close-on-exec.
    pub(super) descriptors: Vec<OwnedFd>,
    /// Not all of it could be had: the buffer was too small, or no descriptors are left.
    pub(super) truncated: bool,
}

/// Receives one packet with its descriptors, without waiting; `None` if there is none.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<Packet>> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; 64]);
    // SAFETY: an msghdr of zeros is a valid one.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    let received = retry(|| {
        // SAFETY: the message points to `part` and `control`, which have the lengths that it says.
        let received =
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC) };
        if received == -1 { Err(io::Error::last_os_error()) } else { Ok(received) }
    });
    let length = match received {
        Ok(length) => usize::try_from(length).unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut descriptors = Vec::new();
    // SAFETY: the kernel has filled `message` and its control buffer; the macros walk what it has filled. Each
    // descriptor in it has just been installed for us and belongs to nobody else.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let octets = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                for n in 0..octets / size_of::<RawFd>() {
                    descriptors.push(OwnedFd::from_raw_fd(data.add(n).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    let truncated = message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
    Ok(Some(Packet { length, descriptors, truncated }))
}

/// A file in memory with this content, its offset at the end.
pub(super) fn memory_file(content: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: the name is a string that ends with NUL.
    let descriptor = check(unsafe { libc::memfd_create(c"ngx_ws_exec".as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: it has just been opened and belongs to nobody else.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
    file.write_all(content)?;
    Ok(file.into())
}

/// A set of signals.
#[derive(Clone, Copy)]
pub(super) struct SignalSet(libc::sigset_t);

impl SignalSet {
    pub(super) fn empty() -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set and cannot fail for a valid pointer.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            Self(set.assume_init())
        }
    }

    pub(super) fn all() -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigfillset initialises the set and cannot fail for a valid pointer.
        unsafe {
            libc::sigfillset(set.as_mut_ptr());
            Self(set.assume_init())
        }
    }

    pub(super) fn of(signal: c_int) -> Self {
        let mut set = Self::empty();
        // SAFETY: `set` is an initialised set; a signal that does not exist is refused without harm.
        unsafe { libc::sigaddset(&raw mut set.0, signal) };
        set
    }

    pub(super) const fn as_ptr(&self) -> *const libc::sigset_t {
        &raw const self.0
    }
}

/// Makes this the signal mask of the thread; returns the one it had.
pub(super) fn set_signal_mask(mask: &SignalSet) -> SignalSet {
    let mut old = SignalSet::empty();
    // SAFETY: both sets are initialised, and SIG_SETMASK is a valid operation, so that it cannot fail.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask.as_ptr(), &raw mut old.0) };
    old
}

/// Gives every signal its default disposition, also the two that the C library keeps to itself: whoever started the
/// server may have had them ignored.
pub(super) fn reset_dispositions() {
    // Longer than the kernel's `sigaction` anywhere; zeros are the default disposition without flags and mask.
    let default = [0u64; 16];
    for signal in 1..=64 {
        // SAFETY: the default disposition runs no code of ours. Signals that cannot be changed are refused without harm.
        unsafe {
            if libc::signal(signal, libc::SIG_DFL) == libc::SIG_ERR {
                let (none, octets_of_mask) = (std::ptr::null_mut::<c_void>(), 64 / 8);
                libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, octets_of_mask);
            }
        }
    }
}

/// A descriptor that is readable while SIGCHLD is pending; SIGCHLD must be blocked.
pub(super) fn child_signals() -> io::Result<OwnedFd> {
    let set = SignalSet::of(libc::SIGCHLD);
    // SAFETY: the set is initialised, and -1 asks for a new descriptor.
    let descriptor = check(unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
    // SAFETY: it has just been opened and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Takes the pending SIGCHLD off the descriptor of [`child_signals`].
pub(super) fn take_child_signal(descriptor: BorrowedFd<'_>) {
    let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
    // SAFETY: the buffer has the length that is said. Nothing of it is looked at: that there is nothing to read means
    // the same as that there was.
    unsafe { libc::read(descriptor.as_raw_fd(), info.as_mut_ptr().cast::<c_void>(), size_of_val(&info)) };
}

/// What a descriptor is watched for.
pub(super) struct Watch<'a> {
    /// Without one nothing happens on it.
    pub(super) descriptor: Option<BorrowedFd<'a>>,
    pub(super) events: i16,
}

/// Waits for events on descriptors, at most for this time; returns what happened on each.
pub(super) fn wait<const N: usize>(watches: [Watch<'_>; N], timeout_ms: Option<u64>) -> [i16; N] {
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

/// Reaps a child that has ended; `None` if there is none.
pub(super) fn reap_any() -> Option<(i32, ExitStatus)> {
    let mut status = 0;
    // SAFETY: `status` has room for the status.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then(|| (pid, exit_status(status)))
}

/// Sends a signal to every process of a group.
pub(super) fn kill_group(group: i32, signal: c_int) -> Reach {
    if group <= 1 {
        // -1 would be everybody.
        return Reach::Nobody;
    }
    // SAFETY: kill takes any numbers.
    match check(unsafe { libc::kill(-group, signal) }) {
        Ok(_) => Reach::Reached,
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Reach::Denied,
        // ESRCH, or EINVAL for a signal that does not exist.
        Err(_) => Reach::Nobody,
    }
}

/// fork(2), but the end of the child raises no signal in the parent, and only [`reap_silent`] waits for it. Returns 0 in
/// the child.
///
/// # Safety
///
/// The child must not return into what called the parent. Unlike after fork(2), locks of the C library that another thread
/// holds stay locked in the child.
pub(super) unsafe fn fork_without_signal() -> io::Result<i32> {
    // SAFETY: without flags and stack this is fork(2); the arguments that only flags give a meaning are zeros on every
    // architecture, whatever their order.
    let result = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// Ends a child of [`fork_without_signal`], if it has not ended, and reaps it.
pub(super) fn reap_silent(pid: i32) {
    let mut status = 0;
    // SAFETY: the process is a child that nobody else can have reaped, so that the number is still its own.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    // SAFETY: `status` has room for the status.
    let _ = retry(|| check(unsafe { libc::waitpid(pid, &raw mut status, libc::__WCLONE) }));
}

/// Waits for a child and reaps it.
pub(super) fn reap(pid: i32) {
    let mut status = 0;
    // SAFETY: `status` has room for the status.
    let _ = retry(|| check(unsafe { libc::waitpid(pid, &raw mut status, 0) }));
}

fn exit_status(status: c_int) -> ExitStatus {
    if libc::WIFSIGNALED(status) {
        // A signal number has seven bits.
        ExitStatus::Signal((libc::WTERMSIG(status) & 0x7F) as u8)
    } else {
        ExitStatus::Code((libc::WEXITSTATUS(status) & 0xFF) as u8)
    }
}

/// Closes every descriptor but `kept`, and makes 0, 1 and 2 the null device.
pub(super) fn close_all_but(kept: BorrowedFd<'_>) -> io::Result<()> {
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

/// Becomes the parent of every descendant whose own parent has ended.
pub(super) fn become_subreaper() -> io::Result<()> {
    // SAFETY: this operation takes one integer.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1 as libc::c_ulong, 0, 0, 0) }).map(|_| ())
}

/// Opens a path below a directory as a mere place (O_PATH), without following a link that leads out of the directory.
///
/// # Errors
///
/// EXDEV for a path that leads out, ELOOP for any link if `links` says that none may be followed. ENOSYS: Linux before
/// 5.6.
pub(in crate::exec) fn open_below(base: BorrowedFd<'_>, path: &CStr, links: Links) -> io::Result<OwnedFd> {
    // SAFETY: an open_how of zeros is a valid one.
    let mut how: libc::open_how = unsafe { MaybeUninit::zeroed().assume_init() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    if links == Links::None {
        how.resolve |= libc::RESOLVE_NO_SYMLINKS;
    }
    let mut attempts = 0;
    loop {
        // SAFETY: the path ends with NUL, and the structure has the size that is said.
        let opened = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                base.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        if opened >= 0 {
            // SAFETY: it has just been opened and belongs to nobody else.
            return Ok(unsafe { OwnedFd::from_raw_fd(opened as RawFd) });
        }
        let error = io::Error::last_os_error();
        // Something was moved while the kernel made its way.
        if error.kind() != io::ErrorKind::WouldBlock || attempts == 8 {
            return Err(error);
        }
        attempts += 1;
    }
}

/// Which links may be followed on the way to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exec) enum Links {
    /// None.
    None,
    /// Those that stay below the directory.
    Inside,
}

/// Whether a file in a directory can be executed by the calling process.
pub(in crate::exec) fn can_be_executed(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: the name ends with NUL.
    check(unsafe { libc::faccessat(directory.as_raw_fd(), name.as_ptr(), libc::X_OK, 0) }).map(|_| ())
}
