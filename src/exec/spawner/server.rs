// SPDX-License-Identifier: Apache-2.0

//! What the spawner does: requests in, programs started and ended, reports out.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Instant;

use super::child::{Launcher, Opened, StartOutcome, Starting};
use super::descendants::{Descendants, Marks};
use super::groups::{Groups, Target};
use super::sys::{self, Packet, Watches};
use super::wire::{self, SpawnerRequest};
use super::{Failure, ProgramId, Report, StartStep};
use crate::exec::terminal;

/// Octets of a description in a file. The kernel takes 6 MB of arguments and environment at most.
const MAX_DESCRIPTION: u64 = 16 << 20;

/// Serves the worker at the other end of `socket` until it is gone, and then until every program is.
///
/// SIGCHLD is blocked, as are all other signals.
pub(super) fn serve(socket: OwnedFd, marks: Marks) -> io::Result<()> {
    let child_signals = sys::child_signals()?;
    let mut server = Server {
        launcher: Launcher::new([socket.as_fd(), child_signals.as_fd()]),
        socket,
        marks,
        starting: Vec::new(),
        failed: HashMap::new(),
        groups: Groups::default(),
        descendants: Descendants::new(),
        unsent: VecDeque::from([(wire::write_ready(std::process::id() as i32), None)]),
        terminals: HashMap::new(),
        connected: true,
        origin: Instant::now(),
    };
    server.flush();
    let mut buffer = vec![0; wire::MAX_INLINE];
    let mut watches = Watches::default();
    while server.has_work() {
        let timeout = server.groups.next_deadline().map(|at| at.saturating_sub(server.now()));
        let interest = if server.unsent.is_empty() { libc::POLLIN } else { libc::POLLIN | libc::POLLOUT };
        watches.clear();
        // Once its other end is closed it would wake us for ever.
        watches.add(server.connected.then_some(server.socket.as_fd()), interest);
        watches.add(Some(child_signals.as_fd()), libc::POLLIN);
        for (_, starting) in &server.starting {
            watches.add(Some(starting.descriptor()), libc::POLLIN);
        }
        // One more, because the clock cuts milliseconds off.
        watches.wait(timeout.map(|ms| ms + 1).or((!server.connected).then_some(1000)));
        let mut index = 0;
        for watched in 0..server.starting.len() {
            if watches.events(2 + watched) == 0 || !server.look_at(index) {
                index += 1;
            }
        }
        if watches.events(1) != 0 {
            sys::take_child_signal(child_signals.as_fd());
            server.reap();
        }
        let requests = watches.events(0);
        if requests != 0 {
            if requests & (libc::POLLHUP | libc::POLLERR) != 0 {
                server.disconnect();
            } else {
                server.receive(&mut buffer);
                server.flush();
            }
        }
        let mut reports = Vec::new();
        server.groups.expire(server.now(), &mut server.descendants, &mut reports);
        server.report(reports);
    }
    Ok(())
}

struct Server {
    socket: OwnedFd,
    launcher: Launcher,
    marks: Marks,
    /// Processes that are about to become programs. They are in `groups` already, and are ended like them.
    starting: Vec<(ProgramId, Starting)>,
    /// Processes that could not become programs and have not been reaped, by their numbers.
    failed: HashMap<i32, (ProgramId, Failure)>,
    groups: Groups,
    descendants: Descendants,
    /// Reports that wait for room in the socket, and the descriptor that goes with one.
    unsent: VecDeque<([u8; wire::REPORT], Option<OwnedFd>)>,
    /// The worker's sides of the terminals of programs that are being started.
    terminals: HashMap<ProgramId, OwnedFd>,
    /// The worker lives.
    connected: bool,
    origin: Instant,
}

impl Server {
    /// Milliseconds since the spawner began.
    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn has_work(&self) -> bool {
        self.connected || !(self.groups.is_empty() || self.groups.is_hopeless(self.now()))
    }

    /// The worker is gone: everything is taken down, and nobody is left to be told.
    fn disconnect(&mut self) {
        self.connected = false;
        self.unsent.clear();
        self.terminals.clear();
        self.groups.stop_all(self.now());
    }

    /// Something may have become of a start. True: it has, and the start is off the list.
    fn look_at(&mut self, index: usize) -> bool {
        let Some((id, starting)) = self.starting.get_mut(index) else { return false };
        let (id, pid) = (*id, starting.pid);
        let Some(outcome) = starting.outcome() else { return false };
        let (_, starting) = self.starting.remove(index);
        self.launcher.put_away(starting);
        match outcome {
            StartOutcome::Running => self.report(vec![Report::Started { id, pid }]),
            // The failure is told when nothing is left of the program.
            StartOutcome::Failed(failure) => drop(self.failed.insert(pid, (id, failure))),
        }
        true
    }

    fn reap(&mut self) {
        // All children are reaped first: an orphan of a group that is still unreaped would make the group look alive.
        let mut ended = Vec::new();
        while let Some(child) = sys::reap_any() {
            ended.push(child);
        }
        for (pid, _) in &ended {
            self.descendants.reaped(*pid);
            // How it came to run, if it did, is told before how it ended.
            if let Some(index) = self.starting.iter().position(|(_, starting)| starting.pid == *pid) {
                self.look_at(index);
            }
        }
        let now = self.now();
        let mut reports = Vec::with_capacity(ended.len());
        for (pid, status) in ended {
            if let Some((id, failure)) = self.failed.remove(&pid) {
                self.groups.withdraw(pid);
                reports.push(Report::Failed { id, failure });
            } else {
                self.groups.exited(now, pid, status, &mut self.descendants, &mut reports);
            }
        }
        self.report(reports);
    }

    /// Deals with one request. To look whether there is another one is what `poll` is for, which looks after the other
    /// sources of events as well.
    fn receive(&mut self, buffer: &mut [u8]) {
        match sys::receive(self.socket.as_fd(), buffer) {
            Ok(Some(Packet { length: 0, .. })) | Err(_) => self.disconnect(),
            Ok(Some(packet)) => {
                let Some(request) = buffer.get(..packet.length).and_then(wire::read_request) else { return };
                let mut reports = Vec::new();
                self.handle(request, packet.descriptors, packet.truncated, &mut reports);
                self.report(reports);
            }
            Ok(None) => {}
        }
    }

    fn handle(
        &mut self,
        request: SpawnerRequest<'_>,
        descriptors: Vec<OwnedFd>,
        truncated: bool,
        reports: &mut Vec<Report>,
    ) {
        let started = match request {
            SpawnerRequest::Signal { id, signal } => return self.groups.signal(id, signal, &mut self.descendants),
            SpawnerRequest::Stop { id, ladder } => return self.groups.stop(self.now(), id, ladder),
            // What is missing from a packet is descriptors: requests fit into the buffer.
            SpawnerRequest::Start { id, .. } | SpawnerRequest::StartByFile { id, .. } if truncated => {
                (id, Err(Failure { stage: StartStep::Request, errno: libc::EMFILE }))
            }
            SpawnerRequest::Start { id, description } => {
                (id, self.start(id, description.to_vec(), descriptors, reports))
            }
            SpawnerRequest::StartByFile { id, length } => (id, self.start_by_file(id, length, descriptors, reports)),
        };
        if let (id, Err(failure)) = started {
            reports.push(Report::Failed { id, failure });
        }
    }

    fn start_by_file(
        &mut self,
        id: ProgramId,
        length: u64,
        mut descriptors: Vec<OwnedFd>,
        reports: &mut Vec<Report>,
    ) -> Result<(), Failure> {
        let failure = |errno| Failure { stage: StartStep::Request, errno };
        let file = File::from(descriptors.pop().ok_or(failure(libc::EBADF))?);
        if length > MAX_DESCRIPTION {
            return Err(Failure { stage: StartStep::Execute, errno: libc::E2BIG });
        }
        let length = usize::try_from(length).map_err(|_| failure(libc::E2BIG))?;
        let mut description = Vec::new();
        description.try_reserve_exact(length).map_err(|_| failure(libc::ENOMEM))?;
        description.resize(length, 0);
        file.read_exact_at(&mut description, 0).map_err(|error| failure(error.raw_os_error().unwrap_or(libc::EIO)))?;
        drop(file);
        self.start(id, description, descriptors, reports)
    }

    fn start(
        &mut self,
        id: ProgramId,
        description: Vec<u8>,
        mut descriptors: Vec<OwnedFd>,
        reports: &mut Vec<Report>,
    ) -> Result<(), Failure> {
        let invalid = Failure { stage: StartStep::Request, errno: libc::EINVAL };
        let start = wire::read_start(&description).ok_or(invalid)?;
        let ladder = start.ladder;
        let notes = if start.notes { Some(descriptors.pop().ok_or(invalid)?) } else { None };
        let directory = if start.opened { Some(descriptors.pop().ok_or(invalid)?) } else { None };
        let (stdio, terminal) = if start.terminal && descriptors.is_empty() {
            let failure = |error: io::Error| Failure {
                stage: StartStep::Terminal,
                errno: error.raw_os_error().unwrap_or(libc::EIO),
            };
            let (ours, theirs) = terminal::open(terminal::Size::default()).map_err(failure)?;
            (theirs, Some(ours))
        } else {
            (descriptors.try_into().map_err(|_| invalid)?, None)
        };
        let mark = self.marks.draw(ladder);
        let starting = self.launcher.launch(description, Opened { stdio, notes, directory }, mark)?;
        if let Some(ours) = terminal {
            self.terminals.insert(id, ours);
        }
        let target = Target { leader: starting.pid, mark, daemons: ladder.daemons };
        self.descendants.started(starting.pid);
        self.groups.insert(id, target, ladder, reports);
        self.starting.push((id, starting));
        Ok(())
    }

    fn report(&mut self, reports: Vec<Report>) {
        if self.connected && !reports.is_empty() {
            for report in reports {
                // Who has it besides keeps the terminal from being hung up.
                let terminal = match report {
                    Report::Started { id, .. } => self.terminals.remove(&id),
                    Report::Failed { id, .. } => self.terminals.remove(&id).and(None),
                    Report::Exited { .. } | Report::Gone { .. } => None,
                };
                self.unsent.push_back((wire::write_report(&report), terminal));
            }
            self.flush();
        }
    }

    fn flush(&mut self) {
        while let Some((report, terminal)) = self.unsent.front() {
            let descriptor = terminal.as_ref().map(AsFd::as_fd);
            match sys::send(self.socket.as_fd(), report, descriptor.as_slice()) {
                Ok(()) => {
                    self.unsent.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The worker is gone, as the next look at the socket will tell.
                Err(_) => return self.unsent.clear(),
            }
        }
    }
}
