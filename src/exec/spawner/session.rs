//! Signals to all process groups of a session. The kernel has no call for it: they are looked for in /proc.

use std::ffi::c_int;
use std::fs;

use super::groups::Reach;
use super::sys::{self, Process};

/// Sends a signal to every process of the session `number`; 0 only asks whether there are any.
pub(super) fn kill(number: i32, signal: c_int) -> Reach {
    let mut reach = sys::kill_group(number, signal);
    if signal == 0 && reach == Reach::Reached {
        return reach;
    }
    let Ok(entries) = fs::read_dir("/proc") else { return reach };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids {
        // Held before it is looked at: if the number has come to mean another process when it is, nobody is signalled.
        let Some(process) = Process::open(pid) else { continue };
        let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else { continue };
        let Some(place) = read_stat(&stat) else { continue };
        // Those that have ended count until they are reaped, as they do in a group.
        if place.session == number && place.group != number {
            reach = match (reach, process.kill(signal)) {
                (Reach::Reached, _) | (_, Reach::Reached) => Reach::Reached,
                (Reach::Denied, _) | (_, Reach::Denied) => Reach::Denied,
                (Reach::Nobody, Reach::Nobody) => Reach::Nobody,
            };
        }
    }
    reach
}

#[derive(Debug, PartialEq, Eq)]
struct Place {
    group: i32,
    session: i32,
}

/// Reads /proc/PID/stat (proc_pid_stat(5)). The name in it may contain anything, also parentheses.
fn read_stat(stat: &[u8]) -> Option<Place> {
    let fields = stat.get(memchr::memrchr(b')', stat)? + 1..)?;
    // Behind the state and the parent.
    let fields = fields.split(|octet| *octet == b' ').filter(|field| !field.is_empty()).skip(2);
    let mut numbers = fields.map(|field| std::str::from_utf8(field).ok()?.parse::<i32>().ok());
    Some(Place { group: numbers.next()??, session: numbers.next()?? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read() {
        let place = |group, session| Some(Place { group, session });
        assert_eq!(read_stat(b"7 (sh) S 1 7 5 34816 7 4194304 0"), place(7, 5));
        assert_eq!(read_stat(b"7 (a) Z 9 9 (b) c)) Z 1 7 5 0 -1"), place(7, 5));
        for bad in [&b""[..], b"7", b"7 (sh", b"7 (sh)", b"7 (sh) S", b"7 (sh) S 1 7", b"7 (sh) S 1 x 5"] {
            assert_eq!(read_stat(bad), None);
        }
    }

    #[test]
    fn this_process_is_found() {
        let own = fs::read("/proc/self/stat").unwrap();
        let place = read_stat(&own).unwrap();
        // SAFETY: both calls only read.
        assert_eq!((place.group, place.session), unsafe { (libc::getpgrp(), libc::getsid(0)) });
        assert_eq!(kill(i32::MAX, 0), Reach::Nobody);
    }
}
