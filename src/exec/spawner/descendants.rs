// SPDX-License-Identifier: Apache-2.0

//! Everything that came of a program: its process group, and what has left that.
//!
//! A shell with jobs puts each into a group of its own, and a daemon leaves group, session and parent. The kernel keeps
//! no list of them, but two things lead to all: who loses its parent becomes a child of the spawner (a subreaper), and
//! every process has the resource limits of the one that made it. So each program is started with a limit of its own
//! that means nothing: RLIMIT_LOCKS, which Linux has not looked at since 2.4. Its value is the program's *mark*.
//!
//! Looking at a process costs some system calls, so that the spawner's children are counted first: as long as they are no
//! more than the programs that run, no program has left anything behind.

use std::collections::HashSet;
use std::ffi::c_int;
use std::fs;
use std::time::{Duration, Instant};

use super::groups::{Reach, Signals, Target};
use super::sys::{self, Process};
use super::{Daemons, Ladder};

/// How long the list of those without a parent may be used.
const FRESH: Duration = Duration::from_millis(20);

/// Looking for them takes at most one part in so many of the time, however many programs there are, ...
const SHARE: u32 = 10;

/// ... unless it takes no longer than this.
const CHEAP: Duration = Duration::from_millis(1);

/// Marks that can be told apart, and with them programs of one spawner.
const MARKS: u64 = 1 << 40;

/// Draws marks, each twice the number of a program, plus one if its daemons are to be left alone: the guard, which knows
/// nothing else of programs, has to know that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks {
    /// The limit that the spawner itself has; marks are below it. `None` if there is no room.
    limit: Option<u64>,
    last: u64,
}

impl Marks {
    /// Of the calling process.
    pub(super) fn new() -> Self {
        Self { limit: sys::lock_limit(0).filter(|limit| *limit > 2 * MARKS), last: 0 }
    }

    /// The mark of the next program.
    pub(super) fn draw(&mut self, ladder: Ladder) -> Option<u64> {
        self.last = (self.last + 1) % (MARKS / 2 - 1);
        let number = 2 * self.last + u64::from(ladder.daemons == Daemons::Keep);
        Some(self.limit? - 1 - number)
    }

    /// Whether it is the mark of a program whose daemons are to be left alone.
    fn keeps_daemons(&self, mark: u64) -> bool {
        self.limit.is_some_and(|limit| (1..MARKS).contains(&(limit - mark.min(limit))) && (limit - 1 - mark) % 2 == 1)
    }
}

/// A process, as /proc/PID/stat (proc_pid_stat(5)) shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    parent: i32,
    group: i32,
    session: i32,
}

impl Place {
    fn of(pid: i32) -> Option<Self> {
        read_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Whether the process has left the session of a program that is led by `leader`, and so everything that a shell or
    /// `make` might do.
    fn is_daemon(&self, own_session: i32, leader: i32) -> bool {
        self.session != own_session && self.session != leader
    }
}

/// A child of the spawner that is no program: its parent has ended.
#[derive(Debug, Clone, Copy)]
struct Orphan {
    pid: i32,
    place: Place,
    mark: Option<u64>,
}

/// Signals by the system.
pub(super) struct Descendants {
    own: i32,
    own_session: i32,
    /// The programs themselves, which have not been reaped.
    programs: HashSet<i32>,
    orphans: Vec<Orphan>,
    /// When the orphans were looked for, and how long that took.
    looked: Option<(Instant, Duration)>,
    /// A child has ended since.
    stale: bool,
}

impl Descendants {
    /// Of the calling process.
    pub(super) fn new() -> Self {
        Self {
            own: std::process::id() as i32,
            // SAFETY: asks for the session of the calling process.
            own_session: unsafe { libc::getsid(0) },
            programs: HashSet::new(),
            orphans: Vec::new(),
            looked: None,
            stale: true,
        }
    }

    /// A program has been started.
    pub(super) fn started(&mut self, pid: i32) {
        self.programs.insert(pid);
    }

    /// A child has been reaped, a program or another one.
    pub(super) fn reaped(&mut self, pid: i32) {
        self.programs.remove(&pid);
        self.stale = true;
    }

    /// Looks for orphans, if it is time. `false`: what is known is old.
    fn look(&mut self) -> bool {
        if let Some((at, took)) = self.looked {
            let age = at.elapsed();
            if !self.stale && age < FRESH {
                return true;
            }
            if took > CHEAP && age < took * SHARE {
                return false;
            }
        }
        let (begin, used) = (Instant::now(), sys::processor_time());
        // The spawner has one thread.
        let list = fs::read_to_string(format!("/proc/self/task/{}/children", self.own));
        let children = list.map_or_else(|_| children(self.own), |list| numbers(&list).collect());
        self.orphans.clear();
        if children.len() > self.programs.len() {
            let others = children.into_iter().filter(|pid| !self.programs.contains(pid));
            self.orphans.extend(others.filter_map(|pid| Some(Orphan { pid, place: Place::of(pid)?, mark: mark(pid) })));
        }
        self.looked = Some((begin, sys::processor_time().saturating_sub(used)));
        self.stale = false;
        true
    }

    /// Whether an orphan came of this program.
    fn belongs(&self, orphan: &Orphan, target: &Target) -> bool {
        let by_mark = orphan.mark.is_some() && orphan.mark == target.mark;
        let by_number = orphan.place.group == target.leader || orphan.place.session == target.leader;
        let kept = target.daemons == Daemons::Keep && orphan.place.is_daemon(self.own_session, target.leader);
        (by_mark || by_number) && !kept
    }

    /// Signals whoever is below a process and not in the group, which has been signalled.
    fn signal_below(&self, pid: i32, target: &Target, signal: c_int, reach: &mut Reach) {
        for child in children(pid) {
            // Held before it is looked at: if the number comes to mean another process, nobody is signalled.
            let process = Process::open(child);
            let Some(place) = Place::of(child).filter(|place| place.parent == pid) else { continue };
            if target.daemons == Daemons::Keep && place.is_daemon(self.own_session, target.leader) {
                continue;
            }
            // First those below, while it is still their parent.
            self.signal_below(child, target, signal, reach);
            if place.group != target.leader {
                *reach =
                    reach.and(process.map_or_else(|| sys::kill_process(child, signal), |process| process.kill(signal)));
            }
        }
    }
}

impl Signals for Descendants {
    fn send(&mut self, target: &Target, signal: c_int) -> Reach {
        let runs = self.programs.contains(&target.leader);
        let mut reach = sys::kill_group(target.leader, signal);
        if runs && reach == Reach::Nobody {
            // The program has not come to make the group yet.
            reach = sys::kill_process(target.leader, signal);
        }
        if signal == 0 && reach == Reach::Reached {
            return reach;
        }
        let known = self.look();
        if signal == 0 {
            return if !known || self.orphans.iter().any(|orphan| self.belongs(orphan, target)) {
                Reach::Reached
            } else {
                reach
            };
        }
        if runs {
            self.signal_below(target.leader, target, signal, &mut reach);
        }
        for orphan in &self.orphans {
            if self.belongs(orphan, target) {
                self.signal_below(orphan.pid, target, signal, &mut reach);
                if orphan.place.group != target.leader {
                    // It is a child, so that its number is its own until it has been reaped.
                    reach = reach.and(sys::kill_process(orphan.pid, signal));
                }
            }
        }
        reach
    }

    fn send_to_group(&mut self, target: &Target, signal: c_int) -> Reach {
        sys::kill_group(target.leader, signal)
    }
}

/// Kills whatever has become a child of the calling process, but for daemons that are to be left alone. True if there was
/// any.
pub(super) fn kill_orphans(marks: Marks) -> bool {
    // SAFETY: asks for the session of the calling process.
    let (own, session) = unsafe { (libc::getpid(), libc::getsid(0)) };
    let mut found = false;
    for pid in children(own) {
        let Some(place) = Place::of(pid) else { continue };
        let keeps = mark(pid).is_some_and(|mark| marks.keeps_daemons(mark));
        if keeps && place.is_daemon(session, session) {
            continue;
        }
        sys::kill_process(pid, libc::SIGKILL);
        found = true;
    }
    found
}

/// The mark of a process; any number for one that is no program's.
fn mark(pid: i32) -> Option<u64> {
    // The system call is refused for processes of another user, such as those of setuid programs; the file is not.
    sys::lock_limit(pid).or_else(|| read_limit(&fs::read(format!("/proc/{pid}/limits")).ok()?))
}

/// Reads the hard limit of locks in /proc/PID/limits.
fn read_limit(limits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(limits).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max file locks"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The children of a process, zombies too.
fn children(pid: i32) -> Vec<i32> {
    let mut children = Vec::new();
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let mut listed = false;
    // They are listed by the thread that made them.
    for task in tasks.into_iter().flatten().flatten() {
        if let Ok(list) = fs::read_to_string(task.path().join("children")) {
            listed = true;
            children.extend(numbers(&list));
        }
    }
    // A kernel without CONFIG_PROC_CHILDREN.
    if !listed && fs::exists(format!("/proc/{pid}")).unwrap_or(false) {
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        children.extend(pids.filter(|other| Place::of(*other).is_some_and(|place| place.parent == pid)));
    }
    children
}

fn numbers(list: &str) -> impl Iterator<Item = i32> {
    list.split_whitespace().filter_map(|number| number.parse().ok())
}

/// Reads /proc/PID/stat. The name in it may contain anything, also parentheses.
fn read_stat(stat: &[u8]) -> Option<Place> {
    let fields = stat.get(memchr::memrchr(b')', stat)? + 1..)?;
    // Behind the state.
    let fields = fields.split(|octet| *octet == b' ').filter(|field| !field.is_empty()).skip(1);
    let mut numbers = fields.map(|field| std::str::from_utf8(field).ok()?.parse::<i32>().ok());
    Some(Place { parent: numbers.next()??, group: numbers.next()??, session: numbers.next()?? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read() {
        let place = |parent, group, session| Some(Place { parent, group, session });
        assert_eq!(read_stat(b"7 (sh) S 1 7 5 34816 7 4194304 0"), place(1, 7, 5));
        assert_eq!(read_stat(b"7 (a) Z 9 9 (b) c)) Z 1 7 5 0 -1"), place(1, 7, 5));
        for bad in [&b""[..], b"7", b"7 (sh", b"7 (sh)", b"7 (sh) S", b"7 (sh) S 1 7", b"7 (sh) S 1 x 5"] {
            assert_eq!(read_stat(bad), None);
        }
    }

    #[test]
    fn this_process_is_found() {
        let own = Place::of(std::process::id() as i32).unwrap();
        // SAFETY: these calls take no pointer.
        assert_eq!((own.parent, own.group, own.session), unsafe {
            (libc::getppid(), libc::getpgrp(), libc::getsid(0))
        });
        assert!(children(own.parent).contains(&(std::process::id() as i32)));
    }

    #[test]
    fn limits_are_read() {
        let limits = fs::read("/proc/self/limits").unwrap();
        assert!(String::from_utf8_lossy(&limits).contains("Max file locks"));
        let line =
            "Max file size  1  2  bytes\nMax file locks            17                   18446744073709551613 locks\n";
        assert_eq!(read_limit(line.as_bytes()), Some(u64::MAX - 2));
        assert_eq!(read_limit(b"Max file locks   unlimited  unlimited locks\n"), None);
        assert_eq!(read_limit(b""), None);
    }

    #[test]
    fn marks_differ_and_tell() {
        for limit in [u64::MAX, 3 * MARKS] {
            let mut marks = Marks { limit: Some(limit), last: 0 };
            let keep = Ladder { daemons: Daemons::Keep, ..Ladder::default() };
            let drawn = [(Ladder::default(), false), (keep, true), (keep, true), (Ladder::default(), false)]
                .map(|(ladder, keeps)| (marks.draw(ladder).unwrap(), keeps));
            for (n, (mark, keeps)) in drawn.iter().enumerate() {
                assert!(*mark < limit && drawn.iter().skip(n + 1).all(|(other, _)| other != mark));
                assert_eq!(marks.keeps_daemons(*mark), *keeps);
            }
            assert!(!marks.keeps_daemons(limit) && !marks.keeps_daemons(0) && !marks.keeps_daemons(1));
        }
        assert_eq!(Marks { limit: None, last: 0 }.draw(Ladder::default()), None);
    }
}
