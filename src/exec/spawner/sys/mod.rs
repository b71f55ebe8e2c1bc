// SPDX-License-Identifier: Apache-2.0

//! The system calls of worker and spawner, in forms that are safe to use.

mod descriptor;
mod packet;
pub(in crate::exec) mod place;
pub(super) mod privileges;
mod process;
pub(super) mod raw;
mod signal;
pub(in crate::exec) mod terminal;

use std::ffi::c_int;
use std::io;

pub(super) use descriptor::{Watches, close_all_but, memory_file, move_above, pipe, read};
pub(super) use packet::{MAX_DESCRIPTORS, Packet, receive, send, socket_pair, widen};
pub(super) use process::{
    Process, become_subreaper, fork_without_signal, kill_group, kill_process, lock_limit, processor_time, reap_any,
    reap_silent, wait_for_any, wait_silent,
};
pub(super) use signal::{SignalSet, child_signals, reset_dispositions, set_signal_mask, take_child_signal};
pub(super) use terminal::has_terminal;

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
