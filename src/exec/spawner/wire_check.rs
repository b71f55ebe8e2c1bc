// SPDX-License-Identifier: Apache-2.0

//! Any octets as packets between worker and spawner, for tests and the fuzz target `spawner`: whoever reads them stays within them,
//! and what was understood is the same when it is written again.

use std::fs::File;
use std::os::fd::AsFd;

use super::child::pointers;
use super::search::candidates;
use super::wire::{self, Greeting, SpawnerRequest, Start};
use super::{ProgramDescription, ProgramId};
use crate::exec::strings::Strings;

/// Reads the octets as each kind of packet.
///
/// # Panics
///
/// If something was understood and is another one when it is written again.
pub fn run(packet: &[u8]) {
    if let Some(request) = wire::read_request(packet) {
        again(&request, packet);
    }
    if let Some(start) = wire::read_start(packet) {
        started(ProgramId(0), &start);
    }
    if let Some(report) = wire::read_report(packet) {
        assert_eq!(wire::read_report(&wire::write_report(&report)), Some(report));
    }
    match wire::read_greeting(packet) {
        Some(Greeting::Ready(pid)) => {
            assert_eq!(wire::read_greeting(&wire::write_ready(pid)), Some(Greeting::Ready(pid)))
        }
        Some(Greeting::Unable(failure)) => {
            assert_eq!(wire::read_greeting(&wire::write_unable(failure)), Some(Greeting::Unable(failure)));
        }
        None => {}
    }
    if let Some(number) = wire::read_account(packet) {
        assert_eq!(wire::write_account(number), packet);
    }
    if let Some(failure) = wire::read_failure(packet) {
        assert_eq!(wire::read_failure(&wire::write_failure(failure)), Some(failure));
    }
}

fn again(request: &SpawnerRequest<'_>, packet: &[u8]) {
    match *request {
        SpawnerRequest::Start { id, description } => {
            if let Some(start) = wire::read_start(description) {
                started(id, &start);
            }
        }
        SpawnerRequest::StartByFile { id, length } => {
            let (mut written, _) = wire::by_file(id, &[]);
            written.truncate(written.len() - size_of_val(&length));
            written.extend(length.to_le_bytes());
            assert!(packet.starts_with(&written));
        }
        SpawnerRequest::Signal { id, signal } => assert!(packet.starts_with(&wire::write_signal(id, signal))),
        SpawnerRequest::Stop { id, ladder } => {
            assert_eq!(wire::read_request(&wire::write_stop(id, ladder)).as_ref(), Some(request));
        }
    }
}

/// The description of a program. What the spawner makes of it is told by nothing but its octets.
fn started(id: ProgramId, start: &Start<'_>) {
    let _ = candidates(start.path, start.environment);
    let (arguments, environment) = (strings(start.arguments), strings(start.environment));
    let (Some(arguments), Some(environment)) = (arguments, environment) else { return };
    let Start { path, directory, limits, ladder, terminal, notes, opened, .. } = start;
    let nothing = notes.then(|| File::open("/dev/null").expect("the null device"));
    let notes = nothing.as_ref().map(File::as_fd);
    let program = ProgramDescription {
        path,
        arguments: &arguments,
        environment: &environment,
        directory: *directory,
        limits,
        ladder: *ladder,
        terminal: *terminal,
        notes,
    };
    let written = wire::write_start(id, &program, *opened);
    let Some(SpawnerRequest::Start { id: same, description }) = wire::read_request(&written) else {
        panic!("a request that was written is none");
    };
    assert_eq!(same, id);
    assert_eq!(wire::read_start(description).as_ref(), Some(start));
    assert!((0..description.len()).all(|cut| wire::read_start(&description[..cut]).is_none()));
}

/// The strings of a block, if the spawner takes it for one: as many as it hands to the kernel.
fn strings(block: &[u8]) -> Option<Strings> {
    let pointers = pointers(block)?;
    let mut strings = Strings::new();
    for string in block.split_inclusive(|octet| *octet == 0) {
        strings.push(string.strip_suffix(b"\0")?).ok()?;
    }
    // A null pointer ends the list.
    assert_eq!(pointers.len(), strings.iter().count() + 1);
    Some(strings)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_octets_are_a_packet_or_none(packet in proptest::collection::vec(any::<u8>(), 0..200)) {
            super::run(&packet);
        }

        /// Most octets are no packet: these begin like one.
        #[test]
        fn so_are_some_that_begin_like_one(tag in 1..7_u8, packet in proptest::collection::vec(0..4_u8, 0..200)) {
            super::run(&[&[tag][..], &packet].concat());
        }
    }
}
