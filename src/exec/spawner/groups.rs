//! The process groups of the programs, and the ladder by which they go: SIGTERM, then SIGKILL, then waiting until the
//! last of them is gone.
//!
//! No clock and no system call: it is told the time (milliseconds), and sends signals by a trait.

use std::collections::{BTreeSet, HashMap};
use std::ffi::c_int;

use super::{ExitStatus, Ladder, ProgramId, Report};

/// Milliseconds between two looks at a group whose leader is gone and which is not empty yet. Nothing tells of the end
/// of a process that is not a child.
const LOOK_INTERVAL: u64 = 50;

/// Milliseconds for which processes that have got SIGKILL are waited for: one that hangs in the kernel may stay for
/// ever, and nothing more can be done about it.
const LAST_WAIT: u64 = 10_000;

/// Sends signals to process groups.
pub(super) trait Signals {
    /// Sends `signal` to every process of `group`; 0 only asks whether there are any.
    fn send(&mut self, group: i32, signal: c_int) -> Reach;
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
    rung: Rung,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rung {
    /// Left alone until `term_at`.
    Asked,
    /// Has got SIGTERM.
    Terminated,
    /// Has got SIGKILL.
    Killed,
}

impl Stop {
    fn new(now: u64, ladder: Ladder) -> Self {
        Self { term_at: now + u64::from(ladder.term_ms), kill_at: now + u64::from(ladder.kill_ms), rung: Rung::Asked }
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

    /// A program has been started as the leader of `number`.
    pub(super) fn insert(&mut self, id: ProgramId, number: i32, ladder: Ladder, reports: &mut Vec<Report>) {
        // A number is given anew only when no process, group or session has it.
        self.remove(number, reports);
        self.groups.insert(number, Group { id, ladder, led: true, stop: None, deadline: None });
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
                rung: earlier.rung,
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
        if let Some(&number) = self.numbers.get(&id) {
            signals.send(number, signal);
        }
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
        let gone = signals.send(pid, 0) == Reach::Nobody;
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
        let Some(stop) = &mut group.stop else { return false };
        let reach = if stop.rung != Rung::Killed && now >= stop.kill_at {
            stop.rung = Rung::Killed;
            signals.send(number, libc::SIGKILL)
        } else if stop.rung == Rung::Asked && now >= stop.term_at {
            stop.rung = Rung::Terminated;
            let reach = signals.send(number, libc::SIGTERM);
            // A process that is stopped takes the signal only when it goes on.
            signals.send(number, libc::SIGCONT);
            reach
        } else if stop.rung == Rung::Killed {
            signals.send(number, libc::SIGKILL)
        } else {
            signals.send(number, 0)
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

#[cfg(test)]
mod tests {
    use super::*;

    const A: ProgramId = ProgramId(1);
    const B: ProgramId = ProgramId(2);
    const LADDER: Ladder = Ladder { term_ms: 100, kill_ms: 5000 };
    const OK: ExitStatus = ExitStatus::Code(0);

    /// A machine on which every group has processes until it is said otherwise.
    #[derive(Default)]
    struct Machine {
        sent: Vec<(i32, c_int)>,
        empty: Vec<i32>,
        denied: Vec<i32>,
    }

    impl Signals for Machine {
        fn send(&mut self, group: i32, signal: c_int) -> Reach {
            if self.empty.contains(&group) {
                return Reach::Nobody;
            }
            if self.denied.contains(&group) {
                return Reach::Denied;
            }
            if signal != 0 {
                self.sent.push((group, signal));
            }
            Reach::Reached
        }
    }

    #[derive(Default)]
    struct Bench {
        groups: Groups,
        machine: Machine,
        reports: Vec<Report>,
    }

    impl Bench {
        fn start(&mut self, id: ProgramId, number: i32) {
            self.groups.insert(id, number, LADDER, &mut self.reports);
        }

        fn exit(&mut self, now: u64, pid: i32, status: ExitStatus) {
            self.groups.exited(now, pid, status, &mut self.machine, &mut self.reports);
        }

        /// Lets the time pass until then, attending to every deadline when it comes; returns what was sent.
        fn run(&mut self, until: u64) -> Vec<(u64, i32, c_int)> {
            let mut log = Vec::new();
            while let Some(at) = self.groups.next_deadline().filter(|at| *at <= until) {
                self.groups.expire(at, &mut self.machine, &mut self.reports);
                log.extend(self.machine.sent.drain(..).map(|(group, signal)| (at, group, signal)));
                assert_ne!(self.groups.next_deadline(), Some(at), "a deadline that does not pass");
            }
            log
        }
    }

    #[test]
    fn a_program_that_leaves_on_its_own_gets_no_signal() {
        let mut bench = Bench::default();
        bench.start(A, 10);
        bench.groups.stop(0, A, LADDER);
        bench.machine.empty.push(10);
        bench.exit(50, 10, OK);
        assert_eq!(bench.reports, [Report::Exited { id: A, status: OK, gone: true }]);
        assert_eq!(bench.run(100_000), []);
        assert!(bench.groups.is_empty());
    }

    #[test]
    fn a_program_that_stays_is_terminated_and_then_killed() {
        let mut bench = Bench::default();
        bench.start(A, 10);
        assert_eq!(bench.run(1_000_000), []);
        bench.groups.stop(1000, A, LADDER);
        assert_eq!(
            bench.run(1_000_000),
            [(1100, 10, libc::SIGTERM), (1100, 10, libc::SIGCONT), (6000, 10, libc::SIGKILL)]
        );
        assert_eq!(bench.groups.next_deadline(), None);
        bench.machine.empty.push(10);
        bench.exit(6001, 10, ExitStatus::Signal(9));
        assert_eq!(bench.reports, [Report::Exited { id: A, status: ExitStatus::Signal(9), gone: true }]);
        assert!(bench.groups.is_empty());
    }

    #[test]
    fn descendants_that_stay_go_by_the_ladder() {
        let mut bench = Bench::default();
        bench.start(A, 10);
        bench.exit(1000, 10, OK);
        assert_eq!(bench.reports, [Report::Exited { id: A, status: OK, gone: false }]);
        assert_eq!(bench.run(5999), [(1100, 10, libc::SIGTERM), (1100, 10, libc::SIGCONT)]);
        assert_eq!(bench.run(6000), [(6000, 10, libc::SIGKILL)]);
        bench.machine.empty.push(10);
        bench.run(6050);
        assert_eq!(bench.reports.last(), Some(&Report::Gone { id: A }));
        assert!(bench.groups.is_empty());
        assert_eq!(bench.groups.next_deadline(), None);
    }

    #[test]
    fn the_end_of_an_orphan_ends_the_wait() {
        let mut bench = Bench::default();
        bench.start(A, 10);
        bench.start(B, 20);
        bench.exit(1000, 10, OK);
        bench.machine.empty.push(10);
        bench.exit(1001, 11, OK);
        bench.groups.expire(1001, &mut bench.machine, &mut bench.reports);
        assert_eq!(bench.reports.last(), Some(&Report::Gone { id: A }));
        assert!(!bench.groups.is_empty());
    }

    #[test]
    fn a_leader_that_leaves_in_the_middle_does_not_start_the_ladder_again() {
        let mut bench = Bench::default();
        bench.start(A, 10);
        bench.groups.stop(0, A, LADDER);
        assert_eq!(bench.run(150).len(), 2);
        bench.exit(150, 10, ExitStatus::Signal(15));
        assert_eq!(bench.run(5000), [(5000, 10, libc::SIGKILL)]);
    }

    #[test]
    fn the_earlier_of_two_stops_counts() {
        let hasty = Ladder { term_ms: 0, kill_ms: 10 };
        for (first, second) in [(LADDER, hasty), (hasty, LADDER)] {
            let mut bench = Bench::default();
            bench.start(A, 10);
            bench.groups.stop(0, A, first);
            bench.groups.stop(0, A, second);
            let at: Vec<_> = bench.run(1_000_000).iter().map(|(at, _, signal)| (*at, *signal)).collect();
            assert_eq!(at, [(0, libc::SIGTERM), (0, libc::SIGCONT), (10, libc::SIGKILL)]);
        }
    }

    #[test]
    fn killed_without_term_when_that_comes_first() {
        let mut bench = Bench::default();
        bench.start(A, 10);
        bench.groups.stop(0, A, Ladder { term_ms: 100, kill_ms: 0 });
        assert_eq!(bench.run(1_000_000), [(0, 10, libc::SIGKILL)]);
    }

    #[test]
    fn all_are_stopped_by_their_own_ladders() {
        let mut bench = Bench::default();
        bench.start(A, 10);
        bench.groups.insert(B, 20, Ladder { term_ms: 1, kill_ms: 2 }, &mut bench.reports);
        bench.groups.stop_all(0);
        let kills: Vec<_> = bench.run(1_000_000).into_iter().filter(|(_, _, s)| *s == libc::SIGKILL).collect();
        assert_eq!(kills, [(2, 20, libc::SIGKILL), (5000, 10, libc::SIGKILL)]);
        assert!(!bench.groups.is_hopeless(14_999));
        assert!(bench.groups.is_hopeless(15_000));
    }

    #[test]
    fn what_cannot_be_signalled_is_given_up_after_the_ladder() {
        let mut bench = Bench::default();
        bench.machine.denied.push(10);
        bench.start(A, 10);
        bench.exit(0, 10, OK);
        bench.run(4999);
        assert_eq!(bench.reports.len(), 1);
        bench.run(5000);
        assert_eq!(bench.reports.last(), Some(&Report::Gone { id: A }));
    }

    #[test]
    fn what_does_not_die_is_given_up() {
        let mut bench = Bench::default();
        bench.start(A, 10);
        bench.exit(0, 10, OK);
        let log = bench.run(1_000_000);
        assert!(log.iter().filter(|(_, _, signal)| *signal == libc::SIGKILL).count() > 100);
        assert_eq!(bench.reports.last(), Some(&Report::Gone { id: A }));
        assert!(bench.groups.is_empty());
    }

    #[test]
    fn a_number_that_comes_again_is_a_new_group() {
        let mut bench = Bench::default();
        bench.start(A, 10);
        bench.exit(0, 10, OK);
        bench.start(B, 10);
        assert_eq!(bench.reports.last(), Some(&Report::Gone { id: A }));
        assert_eq!(bench.run(1_000_000), []);
        bench.groups.stop(0, A, LADDER);
        assert_eq!(bench.groups.next_deadline(), None);
        bench.groups.signal(B, libc::SIGWINCH, &mut bench.machine);
        bench.groups.signal(A, libc::SIGWINCH, &mut bench.machine);
        assert_eq!(bench.machine.sent, [(10, libc::SIGWINCH)]);
    }
}
