// SPDX-License-Identifier: Apache-2.0

//! The worker's end: requests out, reports in, never waiting.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::keeper::Keeper;
use super::launch::{self, Baseline, Role};
use super::wire::Greeting;
use super::{Failure, Ladder, ProgramDescription, ProgramId, Report, StartStep, is_exhaustion, sys, wire};

thread_local! {
    /// Guards that had not ended when they were looked at last. There are few: a worker has one spawner, unless that dies.
    static UNREAPED: RefCell<Vec<i32>> = const { RefCell::new(Vec::new()) };
}

/// A spawner, as its worker sees it.
///
/// Watch [`fd`](Self::fd): when it is readable, [`receive`](Self::receive) until there is no report, and when it is
/// writable, [`flush`](Self::flush). Any error of these two, or of a request where nothing else is said, means that the
/// spawner is dead: its programs have been killed, and another one is to be launched. Dropping it ends all its programs
/// by their ladders, and so does the end of the process that holds it.
#[derive(Debug)]
pub struct Spawner {
    socket: OwnedFd,
    /// `None` before the spawner has told its process, and once it has gone.
    pid: Option<i32>,
    /// Whether the spawner has told its process.
    begun: bool,
    /// Its parent, which is our child and not reaped yet; `None` for a spawner of another user, which the keeper has made.
    guard: Option<i32>,
    /// Requests that wait for room in the socket.
    queue: VecDeque<Queued>,
    /// Programs whose request could not be passed on.
    failed: VecDeque<Report>,
    /// The groups of the programs that have started and are not gone.
    groups: HashMap<ProgramId, i32>,
    /// Our sides of the terminals that the spawner has made, of programs that have started.
    terminals: HashMap<ProgramId, OwnedFd>,
}

#[derive(Debug)]
struct Queued {
    packet: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    /// The program that the request starts, if it does.
    starts: Option<ProgramId>,
}

impl Spawner {
    /// Makes a spawner for the calling process, which is to do this early: what memory it has is what is forked.
    ///
    /// `baseline` is what programs get instead of what nginx has given its worker; see [`Baseline::capture`]. In the
    /// new processes, with descriptors, signals and panic hook cleaned already, `in_child` is called once: it may set
    /// the name of the process, and must not touch anything of nginx that needs descriptors.
    ///
    /// # Errors
    ///
    /// What fork(2) and socketpair(2) say.
    pub fn launch(baseline: &Baseline, in_child: impl FnMut(Role)) -> io::Result<Self> {
        reap_guards();
        let (socket, guard) = launch::launch(baseline, in_child)?;
        Ok(Self::new(socket, Some(guard)))
    }

    /// Asks a keeper for a spawner of its account with this number, without waiting. Until it is there requests wait in the
    /// socket.
    ///
    /// # Errors
    ///
    /// The keeper is gone (EPIPE), or does not look at its requests (EAGAIN), or there are no descriptors left. What else goes
    /// wrong comes from [`receive`](Self::receive).
    pub fn launch_as(keeper: &Keeper, account: u32) -> io::Result<Self> {
        reap_guards();
        Ok(Self::new(keeper.ask(account)?, None))
    }

    fn new(socket: OwnedFd, guard: Option<i32>) -> Self {
        Self {
            socket,
            pid: None,
            begun: false,
            guard,
            queue: VecDeque::new(),
            failed: VecDeque::new(),
            groups: HashMap::new(),
            terminals: HashMap::new(),
        }
    }

    /// The process of the spawner, from when [`receive`](Self::receive) has heard of it until its death was noticed.
    pub const fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// Whether the spawner has ever been there.
    pub const fn has_begun(&self) -> bool {
        self.begun
    }

    /// The socket, for watching it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Asks for a program whose descriptors 0, 1 and 2 are `stdio`. [`Report::Started`] or [`Report::Failed`] follows.
    ///
    /// When the socket has no room the request waits; see [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a program that is not as [`ProgramDescription`] says, of which no report
    /// follows. ENOMEM, EMFILE and ENFILE if a large request could not be put into a file, likewise; ENOBUFS, ENOMEM and
    /// ETOOMANYREFS if the system cannot take the request now, likewise. Anything else: the spawner is dead.
    pub fn start(&mut self, id: ProgramId, program: &ProgramDescription<'_>, stdio: [OwnedFd; 3]) -> io::Result<()> {
        check(program)?;
        self.request(id, program, Vec::from(stdio), false)
    }

    /// Asks for a program in a directory that has been opened, as [`directory::resolve`](crate::exec::directory::resolve)
    /// does it. `program.path` is its name there, and the directory is its working directory. What has become of the
    /// path to the directory meanwhile does not matter, and a link that has taken the place of the file is refused with
    /// ELOOP.
    ///
    /// # Errors
    ///
    /// The errors of [`start`](Self::start); a name with a slash is refused, and so is another working directory.
    pub fn start_in(
        &mut self,
        id: ProgramId,
        program: &ProgramDescription<'_>,
        stdio: [OwnedFd; 3],
        directory: OwnedFd,
    ) -> io::Result<()> {
        check(program)?;
        if program.path.contains(&b'/') || program.directory.is_some() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut descriptors = Vec::from(stdio);
        descriptors.push(directory);
        self.request(id, program, descriptors, true)
    }

    /// Asks for a program on a terminal that the spawner makes, so that it belongs to the spawner's user.
    /// [`take_terminal`](Self::take_terminal) has our side of it when the program has started.
    ///
    /// # Errors
    ///
    /// The errors of [`start`](Self::start), and of [`start_in`](Self::start_in) where there is a directory.
    pub fn start_on_terminal(
        &mut self,
        id: ProgramId,
        program: &ProgramDescription<'_>,
        directory: Option<OwnedFd>,
    ) -> io::Result<()> {
        check(program)?;
        let is_in_directory = directory.is_some();
        if !program.terminal || (is_in_directory && (program.path.contains(&b'/') || program.directory.is_some())) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.request(id, program, directory.into_iter().collect(), is_in_directory)
    }

    /// Our side of the terminal of a program that has been started on one of the spawner's.
    pub fn take_terminal(&mut self, id: ProgramId) -> Option<OwnedFd> {
        self.terminals.remove(&id)
    }

    fn request(
        &mut self,
        id: ProgramId,
        program: &ProgramDescription<'_>,
        mut descriptors: Vec<OwnedFd>,
        opened: bool,
    ) -> io::Result<()> {
        if let Some(notes) = program.notes {
            descriptors.push(notes.try_clone_to_owned()?);
        }
        let mut packet = wire::write_start(id, program, opened);
        if packet.len() > wire::MAX_INLINE {
            let (head, description) = wire::by_file(id, &packet);
            descriptors.push(sys::memory_file(description)?);
            packet = head;
        }
        self.send(Queued { packet, descriptors, starts: Some(id) })
    }

    /// Sends a signal to the process group of a program. A program that has gone meanwhile is no error.
    ///
    /// # Errors
    ///
    /// The spawner is dead.
    pub fn signal(&mut self, id: ProgramId, signal: i32) -> io::Result<()> {
        self.send(Queued { packet: wire::write_signal(id, signal), descriptors: Vec::new(), starts: None })
    }

    /// Takes a program and its whole group down. Of several ladders the earlier times count. A program that has gone
    /// meanwhile is no error.
    ///
    /// # Errors
    ///
    /// The spawner is dead.
    pub fn stop(&mut self, id: ProgramId, ladder: Ladder) -> io::Result<()> {
        self.send(Queued { packet: wire::write_stop(id, ladder), descriptors: Vec::new(), starts: None })
    }

    /// Sends the requests that wait. True: all have been sent; false: call again when the socket is writable.
    ///
    /// # Errors
    ///
    /// The spawner is dead.
    pub fn flush(&mut self) -> io::Result<bool> {
        while let Some(first) = self.queue.pop_front() {
            match first.send(self.socket.as_fd()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.queue.push_front(first);
                    return Ok(false);
                }
                Err(error) => match (exhaustion(&error), first.starts) {
                    (Some(errno), Some(id)) => {
                        let failure = Failure { stage: StartStep::Request, errno };
                        self.failed.push_back(Report::Failed { id, failure });
                    }
                    (Some(_), None) => {
                        self.queue.push_front(first);
                        return Ok(false);
                    }
                    (None, _) => return Err(self.on_spawner_gone(error)),
                },
            }
        }
        Ok(true)
    }

    /// The next report; `None`: call again when the socket is readable, and after [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// The spawner is dead.
    pub fn receive(&mut self) -> io::Result<Option<Report>> {
        reap_guards();
        if let Some(report) = self.failed.pop_front() {
            return Ok(Some(report));
        }
        let mut packet = [0; wire::REPORT];
        let mut terminal = None;
        let received = loop {
            match sys::receive(self.socket.as_fd(), &mut packet) {
                Ok(None) => return Ok(None),
                Ok(Some(received)) if received.length == 0 => break Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Some(mut received)) => match packet.get(..received.length).and_then(wire::read_greeting) {
                    // Comes once, before all reports.
                    Some(Greeting::Ready(pid)) => {
                        self.pid = Some(pid);
                        self.begun = true;
                    }
                    Some(Greeting::Unable(failure)) => break Err(io::Error::other(failure)),
                    None => {
                        terminal = received.descriptors.pop();
                        let report = packet.get(..received.length).and_then(wire::read_report);
                        break report.ok_or_else(|| io::ErrorKind::InvalidData.into());
                    }
                },
                Err(error) => break Err(error),
            }
        };
        let report = received.map_err(|error| self.on_spawner_gone(error))?;
        if let (Report::Started { id, .. }, Some(terminal)) = (&report, terminal) {
            self.terminals.insert(*id, terminal);
        }
        match report {
            // The programs of another user are nothing that this process could signal.
            Report::Started { .. } if self.guard.is_none() => None,
            Report::Started { id, pid } => self.groups.insert(id, pid),
            Report::Exited { id, gone: true, .. } | Report::Gone { id } => self.groups.remove(&id),
            Report::Failed { .. } | Report::Exited { gone: false, .. } => None,
        };
        Ok(Some(report))
    }

    /// The spawner is dead, and its programs with it. What is left of their groups is killed from here, and everything
    /// else by the guard. The numbers of the groups have been free only for as long as it took to notice, which is not
    /// long enough to go round.
    fn on_spawner_gone(&mut self, error: io::Error) -> io::Error {
        for (_, group) in self.groups.drain() {
            sys::kill_group(group, libc::SIGKILL);
        }
        self.pid = None;
        error
    }

    fn send(&mut self, request: Queued) -> io::Result<()> {
        if !self.queue.is_empty() {
            self.queue.push_back(request);
            return Ok(());
        }
        match request.send(self.socket.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.queue.push_back(request);
                Ok(())
            }
            Err(error) if exhaustion(&error).is_some() => match request.starts {
                Some(_) => Err(error),
                // A signal or a stop must not get lost for want of memory.
                None => {
                    self.queue.push_back(request);
                    Ok(())
                }
            },
            Err(error) => Err(self.on_spawner_gone(error)),
            Ok(()) => Ok(()),
        }
    }
}

/// Reaps guards of earlier spawners that have ended meanwhile.
fn reap_guards() {
    UNREAPED.with_borrow_mut(|guards| guards.retain(|guard| !sys::reap_silent(*guard)));
}

impl Drop for Spawner {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.filter(|guard| !sys::reap_silent(*guard)) {
            UNREAPED.with_borrow_mut(|guards| guards.push(guard));
        }
    }
}

impl Queued {
    fn send(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let mut descriptors = [socket; sys::MAX_DESCRIPTORS];
        let mut count = 0;
        for (place, descriptor) in descriptors.iter_mut().zip(&self.descriptors) {
            *place = descriptor.as_fd();
            count += 1;
        }
        sys::send(socket, &self.packet, descriptors.get(..count).unwrap_or_default())
    }
}

/// The error, if it says that the system lacks something and not that the spawner is dead.
fn exhaustion(error: &io::Error) -> Option<i32> {
    error.raw_os_error().filter(|errno| is_exhaustion(*errno))
}

fn check(program: &ProgramDescription<'_>) -> io::Result<()> {
    let is_absolute = |path: &[u8]| path.starts_with(b"/");
    let has_nul = |path: &[u8]| path.contains(&0);
    let path = program.path;
    let file_is_valid = !path.is_empty() && !has_nul(path) && (is_absolute(path) || !path.contains(&b'/'));
    let directory_is_valid = program.directory.is_none_or(|path| is_absolute(path) && !has_nul(path));
    if file_is_valid && directory_is_valid && !program.arguments.is_empty() {
        Ok(())
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}
