//! Which process is which: a process id is used again one day, but not with the same beginning.

use std::io;

use super::store::Process;

/// The process that asks.
pub fn own() -> io::Result<Process> {
    let pid = std::process::id();
    match look(pid)? {
        Some(start) => Ok(Process { pid, start }),
        None => Err(io::Error::other("/proc/self/stat is not as expected")),
    }
}

/// Whether a process is still there. A zombie is not: it does nothing any more.
pub fn lives(process: Process) -> bool {
    match look(process.pid) {
        Ok(start) => start == Some(process.start),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
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
        let own = own().unwrap();
        assert!(lives(own));
        assert!(!lives(Process { start: own.start + 1, ..own }), "another process with the same id");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (pid, start) = (child.id(), look(child.id()).unwrap());
        child.wait().unwrap();
        assert!(!lives(Process { pid, start: start.unwrap_or(0) }));
    }
}
