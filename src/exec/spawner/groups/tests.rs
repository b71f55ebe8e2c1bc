// SPDX-License-Identifier: Apache-2.0

use super::*;

const A: ProgramId = ProgramId(1);
const B: ProgramId = ProgramId(2);
const LADDER: Ladder = Ladder { term_ms: 100, kill_ms: 5000, signal: libc::SIGTERM, daemons: Daemons::Stop };

fn target(leader: i32) -> Target {
    Target { leader, mark: None, daemons: Daemons::Stop }
}
const OK: ExitStatus = ExitStatus::Code(0);

/// A machine on which every group has processes until it is said otherwise.
#[derive(Default)]
struct Machine {
    sent: Vec<(i32, c_int)>,
    empty: Vec<i32>,
    denied: Vec<i32>,
}

impl Signals for Machine {
    fn send_to_group(&mut self, target: &Target, signal: c_int) -> Reach {
        self.send(target, signal)
    }

    fn send(&mut self, target: &Target, signal: c_int) -> Reach {
        let group = target.leader;
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
        self.groups.insert(id, target(number), LADDER, &mut self.reports);
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
    assert_eq!(bench.run(1_000_000), [(1100, 10, libc::SIGTERM), (1100, 10, libc::SIGCONT), (6000, 10, libc::SIGKILL)]);
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
    let hasty = Ladder { term_ms: 0, kill_ms: 10, ..LADDER };
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
    bench.groups.stop(0, A, Ladder { kill_ms: 0, ..LADDER });
    assert_eq!(bench.run(1_000_000), [(0, 10, libc::SIGKILL)]);
}

#[test]
fn all_are_stopped_by_their_own_ladders() {
    let mut bench = Bench::default();
    bench.start(A, 10);
    bench.groups.insert(B, target(20), Ladder { term_ms: 1, kill_ms: 2, ..LADDER }, &mut bench.reports);
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

#[test]
fn another_signal_in_place_of_sigterm() {
    let mut bench = Bench::default();
    bench.start(A, 10);
    bench.groups.stop(0, A, Ladder { signal: libc::SIGINT, ..LADDER });
    assert_eq!(bench.run(5000), [(100, 10, libc::SIGINT), (100, 10, libc::SIGCONT), (5000, 10, libc::SIGKILL)]);
}

#[test]
fn what_was_no_program_leaves_nothing() {
    let mut bench = Bench::default();
    bench.start(A, 10);
    bench.groups.stop(0, A, LADDER);
    bench.groups.withdraw(10);
    assert!(bench.groups.is_empty());
    assert_eq!(bench.run(1_000_000), []);
    assert_eq!(bench.reports, []);
}
