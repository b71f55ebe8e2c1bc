// SPDX-License-Identifier: Apache-2.0

//! Users, groups and capabilities of the calling process (credentials(7), capabilities(7)).

use std::ffi::{c_int, c_ulong};
use std::io;

use super::check;

/// The capabilities that [`keep_ids_only`] keeps: CAP_SETGID and CAP_SETUID.
const KEPT: u64 = 1 << 6 | 1 << 7;

/// Without a meaning of its own for root, without ambient capabilities, and all that locked (`<linux/securebits.h>`).
/// SECBIT_NO_SETUID_FIXUP stays off, and is locked: leaving the user 0 takes the capabilities away.
const SECURE_BITS: c_ulong = 1 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7;

/// _LINUX_CAPABILITY_VERSION_3.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: c_int,
}

/// The lower or the upper half of the sets.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn prctl(operation: c_int, argument: c_ulong) -> io::Result<c_int> {
    // SAFETY: called with operations that take integers only.
    check(unsafe { libc::prctl(operation, argument, 0 as c_ulong, 0 as c_ulong, 0 as c_ulong) })
}

/// Keeps other processes of the same user from looking into this one's memory.
pub(in crate::exec::spawner) fn hide_memory() {
    // It cannot fail for this value.
    let _ = prctl(libc::PR_SET_DUMPABLE, 0);
}

/// Gives up all rights but to change users and groups, for this process and all that come of it.
///
/// # Errors
///
/// The process does not have those two rights, or Linux is older than 3.5.
pub(in crate::exec::spawner) fn keep_ids_only() -> io::Result<()> {
    // A container may have taken the right to these; the two calls that count are below.
    let _ = prctl(libc::PR_SET_SECUREBITS, SECURE_BITS);
    for capability in 0..64 {
        if prctl(libc::PR_CAPBSET_DROP, capability).is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL)) {
            // There are no more capabilities.
            break;
        }
    }
    let _ = prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as c_ulong);
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    let (low, high) = (KEPT as u32, (KEPT >> 32) as u32);
    let sets = [low, high].map(|kept| Sets { effective: kept, permitted: kept, inheritable: 0 });
    let header = Header { version: VERSION, pid: 0 };
    // SAFETY: version 3 reads a header and two sets.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) } as c_int)?;
    Ok(())
}

/// Becomes a user for good, in all of its ids, with these groups.
pub(in crate::exec::spawner) fn change_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: the list is as long as is said; the calls concern the calling process, which has one thread.
    unsafe {
        check(libc::setgroups(groups.len() as _, groups.as_ptr()))?;
        check(libc::setresgid(gid, gid, gid))?;
        check(libc::setresuid(uid, uid, uid))?;
    }
    // A change of users sets it as the system's fs.suid_dumpable says.
    hide_memory();
    Ok(())
}

/// Whether these are the real, effective and saved ids.
pub(in crate::exec::spawner) fn is_user(uid: u32, gid: u32) -> bool {
    let (mut users, mut groups) = ([0; 3], [0; 3]);
    let ([real, effective, saved], [real_group, effective_group, saved_group]) = (&mut users, &mut groups);
    // SAFETY: each call fills the three ids that it is given.
    let read = unsafe {
        libc::getresuid(real, effective, saved) == 0 && libc::getresgid(real_group, effective_group, saved_group) == 0
    };
    read && users == [uid; 3] && groups == [gid; 3]
}

/// Whether the process has any capability, or may take one. It has when that cannot be found out.
pub(in crate::exec::spawner) fn has_capabilities() -> bool {
    let mut sets = [Sets::default(); 2];
    let mut header = Header { version: VERSION, pid: 0 };
    // SAFETY: version 3 reads a header and fills two sets.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    result != 0 || sets.iter().any(|sets| sets.effective | sets.permitted | sets.inheritable != 0)
}

/// Whether the process could become root again.
pub(in crate::exec::spawner) fn can_return() -> bool {
    // SAFETY: the calls concern the calling process only, which ends if one of them succeeds.
    unsafe { libc::setresuid(u32::MAX, 0, u32::MAX) == 0 || libc::setresgid(u32::MAX, 0, u32::MAX) == 0 }
}
