// SPDX-License-Identifier: Apache-2.0

//! Whether the file of the module is still the one in memory, which is looked at whenever a configuration was read.
//!
//! A reload has the module loaded anew by its path, and the loader answers with the file of this path that it has loaded before, even if
//! there is another one by now. Without a word in the log a new version, or a fix, would seem to be there.

use super::ffi;
use super::log::{self, Level};

/// Says so if the file was replaced or removed.
pub fn run(cycle: *mut ffi::ngx_cycle_t) {
    let Ok(maps) = std::fs::read("/proc/self/maps") else { return };
    if !is_gone(&maps, run as *const () as usize) {
        return;
    }
    // SAFETY: while a configuration is read, the cycle before it is there, with the log that its messages go to.
    let log = unsafe { (*(*cycle).old_cycle).log };
    log::write(
        log,
        Level::Warn,
        format_args!(
            "the file of the module was replaced, and nginx goes on with the one that it has loaded: the new one comes with a restart, or with \
             an upgrade of the binary (SIGUSR2)"
        ),
    );
}

/// Whether the file that this address is mapped from has lost its name, by what /proc/PID/maps says (proc_pid_maps(5)).
fn is_gone(maps: &[u8], address: usize) -> bool {
    maps.split(|&octet| octet == b'\n')
        .find(|line| range(line).is_some_and(|range| range.contains(&address)))
        .is_some_and(|line| line.ends_with(b" (deleted)"))
}

/// The addresses of a line: "7f0000000000-7f0000001000 r-xp ...".
fn range(line: &[u8]) -> Option<std::ops::Range<usize>> {
    let (range, _) = std::str::from_utf8(line.get(..line.len().min(64))?).ok()?.split_once(' ')?;
    let (first, end) = range.split_once('-')?;
    Some(usize::from_str_radix(first, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}
