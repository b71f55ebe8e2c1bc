// SPDX-License-Identifier: Apache-2.0

//! Which process is which, for what the workers share.

use std::io;

use crate::channel::process;
use crate::channel::store::Process;
use crate::ledger::Identity;

/// Whether there is a process with this id. One that has ended and that nobody has waited for yet counts.
pub fn exists(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // SAFETY: kill takes any numbers, and the signal 0 is never sent.
    unsafe { libc::kill(pid, 0) == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH) }
}

/// Whether a process is still there.
pub fn lives(process: Process) -> bool {
    process::lives(process, exists)
}

/// This process as one number: its id, and in the upper half when it began.
pub fn identity() -> Identity {
    let own = process::own();
    u64::from(own.start as u32) << 32 | u64::from(own.pid)
}

/// Whether the process of [`identity`] is still there.
pub fn lives_as(identity: Identity) -> bool {
    process::lives_as(identity as u32, (identity >> 32) as u32, exists)
}
