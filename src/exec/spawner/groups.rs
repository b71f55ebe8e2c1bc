// SPDX-License-Identifier: Apache-2.0

//! The process groups of the programs, and the ladder by which they go: SIGTERM, then SIGKILL, then waiting until the
//! last of them is gone.
//!
//! No clock and no system call: it is told the time (milliseconds), and sends signals by a trait.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::ffi::c_int;

use super::{Daemons, ExitStatus, Ladder, ProgramId, Report};

/// Milliseconds between two looks at a group whose leader is gone and which is not empty yet. Nothing tells of the end
/// of a process that is not a child.
const LOOK_INTERVAL: u64 = 50;

/// Milliseconds for which processes that have got SIGKILL are waited for: one that hangs in the kernel may stay for
/// ever, and nothing more can be done about it.
const LAST_WAIT: u64 = 10_000;

/// Sends signals to what came of programs.
pub(super) trait Signals {
    /// Sends `signal` to every process that is meant; 0 only asks whether there are any.
    fn send(&mut self, target: &Target, signal: c_int) -> Reach;

    /// Sends `signal` to the program's own process group.
    fn send_to_group(&mut self, target: &Target, signal: c_int) -> Reach;
}

/// What came of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    /// The program's own process, and the number of its process group.
    pub(super) leader: i32,
    /// What its descendants are known by, wherever they have gone.
    pub(super) mark: Option<u64>,
    /// Whether those are meant that have made a session of their own.
    pub(super) daemons: Daemons,
}

/// Whom a signal reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// At least one process of the group.
    Reached,
    /// The group has no process.
    Nobody,
    /// Processes that may not be signalled, and no other.
    Denied,
}

impl Reach {
    /// What two signals have reached together.
    pub(super) const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Reached, _) | (_, Self::Reached) => Self::Reached,
            (Self::Denied, _) | (_, Self::Denied) => Self::Denied,
            (Self::Nobody, Self::Nobody) => Self::Nobody,
        }
    }
}

/// The groups that have processes, by the number of their leader.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: HashMap<i32, Group>,
    numbers: HashMap<ProgramId, i32>,
    /// When a group needs attention.
    deadlines: BTreeSet<(u64, i32)>,
}

#[derive(Debug)]
struct Group {
    id: ProgramId,
    target: Target,
    ladder: Ladder,
    /// The program itself has not ended.
    led: bool,
    stop: Option<Stop>,
    deadline: Option<u64>,
}

/// How far a group has come on its way out.
#[derive(Debug, Clone, Copy)]
struct Stop {
    term_at: u64,
    kill_at: u64,
    /// What comes at `term_at`.
    signal: c_int,
    rung: Rung,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rung {
    /// Left alone until `term_at`.
    Asked,
    /// Has got SIGTERM, or the signal that takes its place.
    Terminated,
    /// Has got SIGKILL.
    Killed,
}

impl Stop {
    fn new(now: u64, ladder: Ladder) -> Self {
        Self {
            term_at: now + u64::from(ladder.term_ms),
            kill_at: now + u64::from(ladder.kill_ms),
            signal: ladder.signal,
            rung: Rung::Asked,
        }
    }
}

impl Groups {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A program has been started as the leader of `target`.
    pub(super) fn insert(&mut self, id: ProgramId, target: Target, ladder: Ladder, reports: &mut Vec<Report>) {
        let number = target.leader;
        // A number is given anew only when no process, group or session has it.
        self.remove(number, reports);
        self.groups.insert(number, Group { id, target, ladder, led: true, stop: None, deadline: None });
        self.numbers.insert(id, number);
    }

    /// Takes a group down by this ladder, or sooner if it is on its way out already.
    pub(super) fn stop(&mut self, now: u64, id: ProgramId, ladder: Ladder) {
        if let Some(&number) = self.numbers.get(&id) {
            self.begin_stop(number, Stop::new(now, ladder));
        }
    }

    /// Takes every group down, each by its own ladder.
    pub(super) fn stop_all(&mut self, now: u64) {
        let all: Vec<_> = self.groups.iter().map(|(number, group)| (*number, group.ladder)).collect();
        for (number, ladder) in all {
            self.begin_stop(number, Stop::new(now, ladder));
        }
    }

    fn begin_stop(&mut self, number: i32, stop: Stop) {
        let Some(group) = self.groups.get_mut(&number) else { return };
        let stop = match group.stop {
            Some(earlier) => Stop {
                term_at: earlier.term_at.min(stop.term_at),
                kill_at: earlier.kill_at.min(stop.kill_at),
                ..earlier
            },
            None => stop,
        };
        group.stop = Some(stop);
        let next = match stop.rung {
            Rung::Asked => Some(stop.term_at.min(stop.kill_at)),
            Rung::Terminated => Some(stop.kill_at),
            Rung::Killed => group.deadline,
        };
        let next = if group.led { next } else { earlier(next, group.deadline) };
        self.schedule(number, next);
    }

    /// Sends a signal to the group of a program, if there still is one.
    pub(super) fn signal(&mut self, id: ProgramId, signal: c_int, signals: &mut impl Signals) {
        if let Some(group) = self.numbers.get(&id).and_then(|number| self.groups.get(number)) {
            signals.send_to_group(&group.target, signal);
        }
    }

    /// The program of this number was none: it has not come to run, and nothing of it is left.
    pub(super) fn withdraw(&mut self, number: i32) {
        self.forget(number);
    }

    /// A child has ended and been reaped. What is left of its group, if it was a leader, goes by the ladder.
    pub(super) fn exited(
        &mut self,
        now: u64,
        pid: i32,
        status: ExitStatus,
        signals: &mut impl Signals,
        reports: &mut Vec<Report>,
    ) {
        let Some(group) = self.groups.get_mut(&pid) else {
            // An orphan. It may have been the last of a group that is waited for.
            self.look_at_leaderless(now);
            return;
        };
        group.led = false;
        let id = group.id;
        let gone = signals.send(&group.target, 0) == Reach::Nobody;
        reports.push(Report::Exited { id, status, gone });
        if gone {
            self.forget(pid);
            return;
        }
        let stop = *group.stop.get_or_insert(Stop::new(now, group.ladder));
        let next = match stop.rung {
            Rung::Asked => stop.term_at.min(stop.kill_at),
            Rung::Terminated => stop.kill_at,
            Rung::Killed => now,
        };
        self.schedule(pid, Some(next.min(now + LOOK_INTERVAL)));
    }

    fn look_at_leaderless(&mut self, now: u64) {
        let leaderless: Vec<_> =
            self.groups.iter().filter(|(_, group)| !group.led).map(|(number, _)| *number).collect();
        for number in leaderless {
            self.schedule(number, Some(now));
        }
    }

    /// Does what is due.
    pub(super) fn expire(&mut self, now: u64, signals: &mut impl Signals, reports: &mut Vec<Report>) {
        while let Some(&(at, number)) = self.deadlines.first() {
            if at > now {
                return;
            }
            self.schedule(number, None);
            if self.attend(now, number, signals) {
                self.remove(number, reports);
            }
        }
    }

    /// Takes a group one rung further if it is time, or looks whether it is gone. True: there is no more to be done.
    fn attend(&mut self, now: u64, number: i32, signals: &mut impl Signals) -> bool {
        let Some(group) = self.groups.get_mut(&number) else { return false };
        let target = &group.target;
        let Some(stop) = &mut group.stop else { return false };
        let reach = if stop.rung != Rung::Killed && now >= stop.kill_at {
            stop.rung = Rung::Killed;
            signals.send(target, libc::SIGKILL)
        } else if stop.rung == Rung::Asked && now >= stop.term_at {
            stop.rung = Rung::Terminated;
            let reach = signals.send(target, stop.signal);
            // A process that is stopped takes the signal only when it goes on.
            signals.send(target, libc::SIGCONT);
            reach
        } else if stop.rung == Rung::Killed {
            signals.send(target, libc::SIGKILL)
        } else {
            signals.send(target, 0)
        };
        let killed = stop.rung == Rung::Killed;
        let hopeless = killed && (reach == Reach::Denied || now >= stop.kill_at + LAST_WAIT);
        let step = match stop.rung {
            Rung::Asked => Some(stop.term_at.min(stop.kill_at)),
            Rung::Terminated => Some(stop.kill_at),
            Rung::Killed => None,
        };
        if group.led {
            // Its end will be told. A leader that may not be signalled can only be waited for.
            self.schedule(number, step);
            return false;
        }
        if reach == Reach::Nobody || hopeless {
            return true;
        }
        self.schedule(number, earlier(step, Some(now + LOOK_INTERVAL)));
        false
    }

    /// Whether every group that is left has had its SIGKILL for so long that waiting is of no use.
    pub(super) fn is_hopeless(&self, now: u64) -> bool {
        self.groups
            .values()
            .all(|group| group.stop.is_some_and(|stop| stop.rung == Rung::Killed && now >= stop.kill_at + LAST_WAIT))
    }

    fn schedule(&mut self, number: i32, at: Option<u64>) {
        let Some(group) = self.groups.get_mut(&number) else { return };
        if let Some(old) = std::mem::replace(&mut group.deadline, at) {
            self.deadlines.remove(&(old, number));
        }
        if let Some(at) = at {
            self.deadlines.insert((at, number));
        }
    }

    /// The last process of a group is gone, or given up.
    fn remove(&mut self, number: i32, reports: &mut Vec<Report>) {
        if let Some(id) = self.forget(number) {
            reports.push(Report::Gone { id });
        }
    }

    fn forget(&mut self, number: i32) -> Option<ProgramId> {
        self.schedule(number, None);
        let group = self.groups.remove(&number)?;
        self.numbers.remove(&group.id);
        Some(group.id)
    }
}

fn earlier(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
