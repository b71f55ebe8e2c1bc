// SPDX-License-Identifier: Apache-2.0

//! The messages between worker and spawner: one a packet, integers in little-endian.
//!
//! A request to start a program carries stdin, stdout and stderr, the directory of the program if that has been
//! opened, and what it writes its notes to if that is wanted. What it has to say is behind its head if it is small, else in a file in memory whose descriptor comes last: a
//! packet cannot hold the megabytes that execve takes.

use super::limits::{Limit, Resource};
use super::{Daemons, ExitStatus, Failure, Ladder, ProgramDescription, ProgramId, Report, StartStep};

/// Octets of a request that travels as a packet of its own; a longer one goes by a file.
pub(super) const MAX_INLINE: usize = 32 * 1024;

const START: u8 = 1;
const START_BY_FILE: u8 = 2;
const SIGNAL: u8 = 3;
const STOP: u8 = 4;

/// A request of the worker, as the spawner reads it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SpawnerRequest<'a> {
    /// Start a program: its description is [`read_start`]'s to read.
    Start { id: ProgramId, description: &'a [u8] },
    /// Start a program whose description is in a file of this length.
    StartByFile { id: ProgramId, length: u64 },
    /// Send a signal to the group of a program.
    Signal { id: ProgramId, signal: i32 },
    /// Take the group of a program down.
    Stop { id: ProgramId, ladder: Ladder },
}

/// A program as the spawner reads it; the strings are blocks of strings that end with NUL.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Start<'a> {
    pub(super) path: &'a [u8],
    pub(super) arguments: &'a [u8],
    pub(super) environment: &'a [u8],
    pub(super) directory: Option<&'a [u8]>,
    pub(super) limits: Vec<Limit>,
    pub(super) ladder: Ladder,
    pub(super) terminal: bool,
    /// What it writes its notes to comes as a descriptor.
    pub(super) notes: bool,
    /// The directory that `path` is a name in comes as a descriptor.
    pub(super) opened: bool,
}

pub(super) fn write_start(id: ProgramId, program: &ProgramDescription<'_>, opened: bool) -> Vec<u8> {
    let blocks = [program.path, program.arguments.as_block(), program.environment.as_block()];
    let mut to = Vec::with_capacity(128 + blocks.iter().map(|block| block.len()).sum::<usize>());
    head(&mut to, START, id);
    write_ladder(&mut to, program.ladder);
    to.push(u8::from(program.terminal));
    to.push(u8::from(program.notes.is_some()));
    to.push(u8::from(opened));
    to.push(u8::try_from(program.limits.len()).unwrap_or(u8::MAX));
    for limit in program.limits.iter().take(usize::from(u8::MAX)) {
        to.push(resource_number(limit.resource));
        to.extend_from_slice(&limit.value.to_le_bytes());
    }
    to.push(u8::from(program.directory.is_some()));
    for block in blocks.into_iter().chain(program.directory) {
        to.extend_from_slice(&(block.len() as u64).to_le_bytes());
        to.extend_from_slice(block);
    }
    to
}

/// The packet that goes instead of `start` when that is too long, and the part of `start` that goes into the file.
pub(super) fn by_file(id: ProgramId, start: &[u8]) -> (Vec<u8>, &[u8]) {
    let description = start.get(HEAD..).unwrap_or_default();
    let mut to = Vec::with_capacity(HEAD + 8);
    head(&mut to, START_BY_FILE, id);
    to.extend_from_slice(&(description.len() as u64).to_le_bytes());
    (to, description)
}

pub(super) fn write_signal(id: ProgramId, signal: i32) -> Vec<u8> {
    let mut to = Vec::with_capacity(HEAD + 4);
    head(&mut to, SIGNAL, id);
    to.extend_from_slice(&signal.to_le_bytes());
    to
}

pub(super) fn write_stop(id: ProgramId, ladder: Ladder) -> Vec<u8> {
    let mut to = Vec::with_capacity(HEAD + 13);
    head(&mut to, STOP, id);
    write_ladder(&mut to, ladder);
    to
}

/// Octets of tag and id, with which every message begins.
const HEAD: usize = 1 + 8;

fn head(to: &mut Vec<u8>, tag: u8, id: ProgramId) {
    to.push(tag);
    to.extend_from_slice(&id.0.to_le_bytes());
}

fn write_ladder(to: &mut Vec<u8>, ladder: Ladder) {
    to.extend_from_slice(&ladder.term_ms.to_le_bytes());
    to.extend_from_slice(&ladder.kill_ms.to_le_bytes());
    to.extend_from_slice(&ladder.signal.to_le_bytes());
    to.push(u8::from(ladder.daemons == Daemons::Keep));
}

/// Takes integers and blocks off the front of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[octet]| octet)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn id(&mut self) -> Option<ProgramId> {
        self.u64().map(ProgramId)
    }

    fn ladder(&mut self) -> Option<Ladder> {
        let (term_ms, kill_ms, signal) = (self.u32()?, self.u32()?, self.i32()?);
        let daemons = if self.u8()? == 0 { Daemons::Stop } else { Daemons::Keep };
        Some(Ladder { term_ms, kill_ms, signal, daemons })
    }

    fn block(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u64()?).ok()?;
        self.take(length)
    }
}

/// Reads a request; `None` if it is not one.
pub(super) fn read_request(packet: &[u8]) -> Option<SpawnerRequest<'_>> {
    let mut fields = Fields(packet);
    let tag = fields.u8()?;
    let id = fields.id()?;
    match tag {
        START => Some(SpawnerRequest::Start { id, description: fields.0 }),
        START_BY_FILE => Some(SpawnerRequest::StartByFile { id, length: fields.u64()? }),
        SIGNAL => Some(SpawnerRequest::Signal { id, signal: fields.i32()? }),
        STOP => Some(SpawnerRequest::Stop { id, ladder: fields.ladder()? }),
        _ => None,
    }
}

/// Reads the description of a program; `None` if it is not one.
pub(super) fn read_start(description: &[u8]) -> Option<Start<'_>> {
    let mut fields = Fields(description);
    let ladder = fields.ladder()?;
    let terminal = fields.u8()? != 0;
    let notes = fields.u8()? != 0;
    let opened = fields.u8()? != 0;
    let mut limits = Vec::new();
    for _ in 0..fields.u8()? {
        limits.push(Limit { resource: resource(fields.u8()?)?, value: fields.u64()? });
    }
    let has_directory = fields.u8()? != 0;
    let path = fields.block()?;
    let arguments = fields.block()?;
    let environment = fields.block()?;
    let directory = if has_directory { Some(fields.block()?) } else { None };
    let start = Start { path, arguments, environment, directory, limits, ladder, terminal, notes, opened };
    fields.0.is_empty().then_some(start)
}

const STARTED: u8 = 1;
const FAILED: u8 = 2;
const EXITED: u8 = 3;
const GONE: u8 = 4;
const READY: u8 = 5;
const UNABLE: u8 = 6;

/// Octets that a report has.
pub(super) const REPORT: usize = HEAD + 8;

pub(super) fn write_report(report: &Report) -> [u8; REPORT] {
    let (tag, id, first, second) = match *report {
        Report::Started { id, pid } => (STARTED, id, 0, pid),
        Report::Failed { id, failure } => (FAILED, id, stage_number(failure.stage), failure.errno),
        Report::Exited { id, status, gone } => {
            let (signalled, value) = match status {
                ExitStatus::Code(code) => (0, code),
                ExitStatus::Signal(number) => (2, number),
            };
            (EXITED, id, u32::from(gone) | signalled, i32::from(value))
        }
        Report::Gone { id } => (GONE, id, 0, 0),
    };
    write_message(tag, id, first, second)
}

fn write_message(tag: u8, id: ProgramId, first: u32, second: i32) -> [u8; REPORT] {
    let mut to = [0; REPORT];
    let [at_tag, rest @ ..] = &mut to;
    *at_tag = tag;
    let (at_id, rest) = rest.split_at_mut(8);
    at_id.copy_from_slice(&id.0.to_le_bytes());
    let (at_first, at_second) = rest.split_at_mut(4);
    at_first.copy_from_slice(&first.to_le_bytes());
    at_second.copy_from_slice(&second.to_le_bytes());
    to
}

/// What the spawner says first: which process it is.
pub(super) fn write_ready(pid: i32) -> [u8; REPORT] {
    write_message(READY, ProgramId(0), 0, pid)
}

/// What is said in place of that by a process that could not become one, or by the keeper that could not make it.
pub(super) fn write_unable(failure: Failure) -> [u8; REPORT] {
    write_message(UNABLE, ProgramId(0), stage_number(failure.stage), failure.errno)
}

/// What the spawner says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greeting {
    /// The spawner is there, as this process.
    Ready(i32),
    /// There is no spawner.
    Unable(Failure),
}

/// Reads what the spawner says first; `None` if it is something else.
pub(super) fn read_greeting(packet: &[u8]) -> Option<Greeting> {
    let mut fields = Fields(packet);
    let (tag, _, first, second) = (fields.u8()?, fields.id()?, fields.u32()?, fields.i32()?);
    match tag {
        READY => Some(Greeting::Ready(second)),
        UNABLE => Some(Greeting::Unable(Failure { stage: stage(first)?, errno: second })),
        _ => None,
    }
}

/// Octets of a request to the keeper.
pub(super) const ACCOUNT: usize = 4;

/// The request to the keeper: the number of an account.
pub(super) fn write_account(number: u32) -> [u8; ACCOUNT] {
    number.to_le_bytes()
}

/// Reads that; `None` if it is something else.
pub(super) fn read_account(packet: &[u8]) -> Option<u32> {
    packet.try_into().ok().map(u32::from_le_bytes)
}

/// Why a process could not become a program, as it says it.
pub(super) fn write_failure(failure: Failure) -> [u8; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (stage_number(failure.stage).to_le_bytes(), failure.errno.to_le_bytes());
    [a, b, c, d, e, f, g, h]
}

/// Reads that; `None` if it is something else.
pub(super) fn read_failure(octets: &[u8]) -> Option<Failure> {
    let mut fields = Fields(octets);
    Some(Failure { stage: stage(fields.u32()?)?, errno: fields.i32()? })
}

/// Reads a report; `None` if it is not one.
pub(super) fn read_report(packet: &[u8]) -> Option<Report> {
    let mut fields = Fields(packet);
    let tag = fields.u8()?;
    let id = fields.id()?;
    let first = fields.u32()?;
    let second = fields.i32()?;
    match tag {
        STARTED => Some(Report::Started { id, pid: second }),
        FAILED => Some(Report::Failed { id, failure: Failure { stage: stage(first)?, errno: second } }),
        EXITED => {
            let value = u8::try_from(second).ok()?;
            let status = if first & 2 == 0 { ExitStatus::Code(value) } else { ExitStatus::Signal(value) };
            Some(Report::Exited { id, status, gone: first & 1 != 0 })
        }
        GONE => Some(Report::Gone { id }),
        _ => None,
    }
}

fn resource_number(resource: Resource) -> u8 {
    resource as u8
}

fn resource(number: u8) -> Option<Resource> {
    Resource::NAMES.into_iter().map(|(_, resource)| resource).find(|resource| *resource as u8 == number)
}

const STAGES: [StartStep; 11] = [
    StartStep::Request,
    StartStep::Search,
    StartStep::Fork,
    StartStep::Session,
    StartStep::Descriptors,
    StartStep::Terminal,
    StartStep::Directory,
    StartStep::Limits,
    StartStep::Execute,
    StartStep::Interpreter,
    StartStep::User,
];

fn stage_number(stage: StartStep) -> u32 {
    stage as u32
}

fn stage(number: u32) -> Option<StartStep> {
    STAGES.into_iter().find(|stage| *stage as u32 == number)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::exec::strings::Strings;

    const ID: ProgramId = ProgramId(0x0102_0304_0506_0708);
    const LADDER: Ladder = Ladder { term_ms: 100, kill_ms: u32::MAX, signal: libc::SIGINT, daemons: Daemons::Keep };

    fn strings(list: &[&[u8]]) -> Strings {
        let mut strings = Strings::new();
        for string in list {
            strings.push(string).unwrap();
        }
        strings
    }

    #[test]
    fn starts() {
        let arguments = strings(&[b"cat", b"-u"]);
        let environment = strings(&[b"A=1", b"B="]);
        let file = std::fs::File::open("/dev/null").unwrap();
        let limits = Resource::NAMES.map(|(_, resource)| Limit { resource, value: u64::MAX });
        let mut program = ProgramDescription {
            path: b"/bin/cat",
            arguments: &arguments,
            environment: &environment,
            directory: Some(b"/srv"),
            limits: &limits,
            ladder: LADDER,
            terminal: true,
            notes: Some(file.as_fd()),
        };
        for opened in [true, false] {
            let packet = write_start(ID, &program, opened);
            let Some(SpawnerRequest::Start { id, description }) = read_request(&packet) else { panic!("not a start") };
            assert_eq!(id, ID);
            let start = read_start(description).unwrap();
            assert_eq!(start.path, b"/bin/cat");
            assert_eq!(start.arguments, b"cat\0-u\0");
            assert_eq!(start.environment, b"A=1\0B=\0");
            assert_eq!(start.directory, program.directory);
            assert_eq!(start.limits, program.limits);
            assert_eq!(start.ladder, LADDER);
            assert_eq!((start.terminal, start.opened), (program.terminal, opened));
            assert_eq!(start.notes, program.notes.is_some());
            for cut in 0..description.len() {
                assert_eq!(read_start(&description[..cut]), None);
            }
            let (packet, by_file) = by_file(ID, &packet);
            assert_eq!(by_file, description);
            let length = by_file.len() as u64;
            assert_eq!(read_request(&packet), Some(SpawnerRequest::StartByFile { id: ID, length }));
            program = ProgramDescription { directory: None, limits: &[], terminal: false, notes: None, ..program };
        }
    }

    #[test]
    fn other_requests() {
        let signal = write_signal(ID, 15);
        assert_eq!(read_request(&signal), Some(SpawnerRequest::Signal { id: ID, signal: 15 }));
        let stop = write_stop(ID, LADDER);
        assert_eq!(read_request(&stop), Some(SpawnerRequest::Stop { id: ID, ladder: LADDER }));
        for packet in [signal, stop] {
            for cut in 0..packet.len() {
                assert_eq!(read_request(&packet[..cut]), None);
            }
        }
        assert_eq!(read_request(&[9; 64]), None);
    }

    #[test]
    fn reports() {
        let mut reports = vec![Report::Started { id: ID, pid: 4_000_000 }, Report::Gone { id: ID }];
        for stage in STAGES {
            reports.push(Report::Failed { id: ID, failure: Failure { stage, errno: libc::ENOENT } });
        }
        for status in [ExitStatus::Code(0), ExitStatus::Code(255), ExitStatus::Signal(9)] {
            reports.push(Report::Exited { id: ID, status, gone: true });
            reports.push(Report::Exited { id: ID, status, gone: false });
        }
        for report in reports {
            let packet = write_report(&report);
            assert_eq!(read_report(&packet), Some(report));
            for cut in 0..packet.len() {
                assert_eq!(read_report(&packet[..cut]), None);
            }
        }
        assert_eq!(read_report(&[9; REPORT]), None);
        assert_eq!(read_greeting(&write_ready(4_000_000)), Some(Greeting::Ready(4_000_000)));
        assert_eq!(read_report(&write_ready(7)), None);
        assert_eq!(read_greeting(&write_report(&Report::Gone { id: ID })), None);
        let failure = Failure { stage: StartStep::Interpreter, errno: libc::ENOENT };
        assert_eq!(read_greeting(&write_unable(failure)), Some(Greeting::Unable(failure)));
        assert_eq!(read_report(&write_unable(failure)), None);
        assert_eq!(read_failure(&write_failure(failure)), Some(failure));
        assert_eq!(read_failure(&[0; 7]), None);
    }
}
