// SPDX-License-Identifier: Apache-2.0

//! Which process is which: a process id is used again one day, but not with the same beginning.
//!
//! When a process began is in `/proc`. Where that is not mounted, or hides processes from each other, a worker is known by
//! its id alone: another process that gets the id of a worker that was killed is taken for it until it ends. What the dead
//! worker had is then given back later; nothing else depends on it.

use std::io;

use super::store::Process;

/// The process that asks. Its beginning is 0 where it cannot be found out.
pub fn own() -> Process {
    let pid = std::process::id();
    Process { pid, start: look(pid).ok().flatten().unwrap_or(0) }
}

/// Whether a process is still there. A zombie is not: it does nothing any more. `exists` tells whether there is any process
/// with an id.
pub fn lives(process: Process, exists: impl Fn(u32) -> bool) -> bool {
    is_there(process.pid, process.start, |start| start, exists)
}

/// Whether a process of whose beginning only the lower half is known is still there, as for [`lives`].
pub fn lives_as(pid: u32, start: u32, exists: impl Fn(u32) -> bool) -> bool {
    is_there(pid, u64::from(start), |start| u64::from(start as u32), exists)
}

fn is_there(pid: u32, start: u64, kept: impl Fn(u64) -> u64, exists: impl Fn(u32) -> bool) -> bool {
    if !exists(pid) {
        return false;
    }
    match look(pid) {
        // Its beginning was not found out when it was noted.
        Ok(found) if start == 0 => found.is_some(),
        Ok(found) => found.map(kept) == Some(start),
        // The process has just ended, unless there is nothing about any process, or about this one for others: with
        // "hidepid" (proc(5)), as by ProtectProc= of systemd, a process that keeps its memory to itself is not shown to them.
        Err(error) if error.kind() == io::ErrorKind::NotFound => exists(pid),
        Err(_) => true,
    }
}

/// When a process began, in clock ticks since the machine did. `None` if it has ended.
fn look(pid: u32) -> io::Result<Option<u64>> {
    Ok(start_time(&std::fs::read(format!("/proc/{pid}/stat"))?))
}

/// Fields of `/proc/pid/stat` (proc_pid_stat(5)): the second one is a name in parentheses that may contain anything.
fn start_time(stat: &[u8]) -> Option<u64> {
    let after_name = stat.iter().rposition(|&octet| octet == b')')? + 1;
    let rest = std::str::from_utf8(stat.get(after_name..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    // Field 22; the state was the third.
    let start = fields.nth(18)?;
    if matches!(state, "Z" | "X" | "x") { None } else { start.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn fields_are_counted_after_the_name() {
        let stat = |state: &str| {
            format!(
                "12 (a) b (c)) {state} 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 33 44 18446744073709551615"
            )
        };
        assert_eq!(start_time(stat("S").as_bytes()), Some(987_654));
        assert_eq!(start_time(stat("R").as_bytes()), Some(987_654));
        assert_eq!(start_time(stat("Z").as_bytes()), None);
        for damaged in ["", "12", "12 (a", "12 (a) S 1", "12 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x"] {
            assert_eq!(start_time(damaged.as_bytes()), None, "{damaged}");
        }
    }

    #[cfg(not(miri))]
    #[test]
    fn this_process_lives_and_others_do_not() {
        let own = own();
        assert!(lives(own, |_| true));
        assert!(lives_as(own.pid, own.start as u32, |_| true));
        assert!(!lives(own, |_| false), "the system knows best");
        assert!(!lives(Process { start: own.start + 1, ..own }, |_| true), "another process with the same id");
        assert!(lives(Process { start: 0, ..own }, |_| true), "of whose beginning nothing is known");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (pid, start) = (child.id(), look(child.id()).unwrap());
        child.wait().unwrap();
        let gone = Process { pid, start: start.unwrap_or(0) };
        let has_been_there = Cell::new(false);
        assert!(!lives(gone, |_| !has_been_there.replace(true)), "it ends while it is looked for");
        assert!(lives(gone, |_| true), "it is there and not shown");
    }
}
