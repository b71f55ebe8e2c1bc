// SPDX-License-Identifier: Apache-2.0

//! Packets with descriptors between two processes (unix(7), cmsg(3)).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{check, retry};

/// Two connected sockets that keep packets apart and in order.
pub(in crate::exec::spawner) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut pair = [-1; 2];
    // SAFETY: `pair` has room for the two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, pair.as_mut_ptr()) })?;
    let [a, b] = pair;
    // SAFETY: both have just been opened and belong to nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(a), OwnedFd::from_raw_fd(b)) })
}

/// Lets as much wait in a socket for the other side as the system allows without privileges.
pub(in crate::exec::spawner) fn widen(socket: BorrowedFd<'_>) {
    let size: libc::c_int = 1 << 20;
    // SAFETY: the option is an integer, whose size is said. What the system makes of it is no matter of right or wrong.
    unsafe {
        let size: *const libc::c_int = &raw const size;
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, size.cast(), length);
    }
}

/// Descriptors that one packet may carry: three for the program, one for its notes, one for its directory, one for a
/// request that is too long.
pub(in crate::exec::spawner) const MAX_DESCRIPTORS: usize = 6;

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
pub(in crate::exec::spawner) fn send(
    socket: BorrowedFd<'_>,
    packet: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
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
pub(in crate::exec::spawner) struct Packet {
    /// Its length in the buffer; 0 is the end.
    pub(in crate::exec::spawner) length: usize,
    /// What came with it, close-on-exec.
    pub(in crate::exec::spawner) descriptors: Vec<OwnedFd>,
    /// Not all of it could be had: the buffer was too small, or no descriptors are left.
    pub(in crate::exec::spawner) truncated: bool,
}

/// Receives one packet with its descriptors, without waiting; `None` if there is none.
pub(in crate::exec::spawner) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<Packet>> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; 64]);
    // SAFETY: an msghdr of zeros is a valid one.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    let mut once = || {
        // SAFETY: the message points to `part` and `control`, which have the lengths that it says.
        let received =
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC) };
        if received == -1 { Err(io::Error::last_os_error()) } else { Ok(received) }
    };
    let received = loop {
        match retry(&mut once) {
            // The other side has gone without reading all that was sent to it. The kernel says that once, and what that side has
            // sent before is still there, with the end behind it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            received => break received,
        }
    };
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
