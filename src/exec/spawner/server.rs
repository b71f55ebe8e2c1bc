//! What the spawner does: requests in, programs started and ended, reports out.

use std::collections::VecDeque;
use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Instant;

use super::child::Launcher;
use super::groups::{Groups, Reach, Signals, Target};
use super::session;
use super::sys::{self, Packet, Watch};
use super::wire::{self, Request};
use super::{Failure, ProgramId, Report, Stage};

/// Octets of a description in a file. The kernel takes 6 MB of arguments and environment at most.
const MAX_DESCRIPTION: u64 = 16 << 20;

/// Serves the worker at the other end of `socket` until it is gone, and then until every program is.
///
/// SIGCHLD is blocked, as are all other signals.
pub(super) fn serve(socket: OwnedFd) -> io::Result<()> {
    let child_signals = sys::child_signals()?;
    let mut server = Server {
        socket,
        launcher: Launcher::new()?,
        groups: Groups::default(),
        unsent: VecDeque::new(),
        connected: true,
        origin: Instant::now(),
    };
    let mut buffer = vec![0; wire::MAX_INLINE];
    while server.has_work() {
        let timeout = server.groups.next_deadline().map(|at| at.saturating_sub(server.now()));
        let interest = if server.unsent.is_empty() { libc::POLLIN } else { libc::POLLIN | libc::POLLOUT };
        let [requests, ended] = sys::wait(
            [
                // Once its other end is closed it would wake us for ever.
                Watch { descriptor: server.connected.then_some(server.socket.as_fd()), events: interest },
                Watch { descriptor: Some(child_signals.as_fd()), events: libc::POLLIN },
            ],
            // One more, because the clock cuts milliseconds off.
            timeout.map(|ms| ms + 1).or((!server.connected).then_some(1000)),
        );
        if ended != 0 {
            sys::take_child_signal(child_signals.as_fd());
            server.reap();
        }
        if requests != 0 {
            if requests & (libc::POLLHUP | libc::POLLERR) != 0 {
                server.disconnect();
            } else {
                server.receive(&mut buffer);
                server.flush();
            }
        }
        let mut reports = Vec::new();
        server.groups.expire(server.now(), &mut Kill, &mut reports);
        server.report(reports);
    }
    Ok(())
}

struct Server {
    socket: OwnedFd,
    launcher: Launcher,
    groups: Groups,
    /// Reports that wait for room in the socket.
    unsent: VecDeque<[u8; wire::REPORT]>,
    /// The worker lives.
    connected: bool,
    origin: Instant,
}

/// Signals by the system.
struct Kill;

impl Signals for Kill {
    fn send(&mut self, target: Target, signal: c_int) -> Reach {
        match target {
            Target::Group(group) => sys::kill_group(group, signal),
            Target::Session(number) => session::kill(number, signal),
        }
    }
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
        self.groups.stop_all(self.now());
    }

    fn reap(&mut self) {
        // All of them first: an orphan of a group that is still unreaped would make the group look alive.
        let mut ended = Vec::new();
        while let Some(child) = sys::reap_any() {
            ended.push(child);
        }
        let now = self.now();
        let mut reports = Vec::with_capacity(ended.len());
        for (pid, status) in ended {
            self.groups.exited(now, pid, status, &mut Kill, &mut reports);
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

    fn handle(&mut self, request: Request<'_>, descriptors: Vec<OwnedFd>, truncated: bool, reports: &mut Vec<Report>) {
        let started = match request {
            Request::Signal { id, signal } => return self.groups.signal(id, signal, &mut Kill),
            Request::Stop { id, ladder } => return self.groups.stop(self.now(), id, ladder),
            // What is missing from a packet is descriptors: requests fit into the buffer.
            Request::Start { id, .. } | Request::StartByFile { id, .. } if truncated => {
                (id, Err(Failure { stage: Stage::Request, errno: libc::EMFILE }))
            }
            Request::Start { id, description } => (id, self.start(id, description, descriptors, reports)),
            Request::StartByFile { id, length } => (id, self.start_by_file(id, length, descriptors, reports)),
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
        let failure = |errno| Failure { stage: Stage::Request, errno };
        let file = File::from(descriptors.pop().ok_or(failure(libc::EBADF))?);
        if length > MAX_DESCRIPTION {
            return Err(Failure { stage: Stage::Execute, errno: libc::E2BIG });
        }
        let length = usize::try_from(length).map_err(|_| failure(libc::E2BIG))?;
        let mut description = Vec::new();
        description.try_reserve_exact(length).map_err(|_| failure(libc::ENOMEM))?;
        description.resize(length, 0);
        file.read_exact_at(&mut description, 0).map_err(|error| failure(error.raw_os_error().unwrap_or(libc::EIO)))?;
        drop(file);
        self.start(id, &description, descriptors, reports)
    }

    fn start(
        &mut self,
        id: ProgramId,
        description: &[u8],
        mut descriptors: Vec<OwnedFd>,
        reports: &mut Vec<Report>,
    ) -> Result<(), Failure> {
        let invalid = Failure { stage: Stage::Request, errno: libc::EINVAL };
        let start = wire::read_start(description).ok_or(invalid)?;
        let directory = if start.opened { Some(descriptors.pop().ok_or(invalid)?) } else { None };
        let stdio: [OwnedFd; 3] = descriptors.try_into().map_err(|_| invalid)?;
        let pid = self.launcher.launch(&start, &stdio, directory.as_ref())?;
        let target = if start.terminal { Target::Session(pid) } else { Target::Group(pid) };
        self.groups.insert(id, target, start.ladder, reports);
        reports.push(Report::Started { id, pid });
        Ok(())
    }

    fn report(&mut self, reports: Vec<Report>) {
        if self.connected && !reports.is_empty() {
            self.unsent.extend(reports.iter().map(wire::write_report));
            self.flush();
        }
    }

    fn flush(&mut self) {
        while let Some(report) = self.unsent.front() {
            match sys::send(self.socket.as_fd(), report, &[]) {
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
