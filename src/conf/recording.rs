// SPDX-License-Identifier: Apache-2.0

//! `websocket_record`: where sessions are recorded, in which form, and how much may wait to be written.

use std::rc::Rc;

use super::directives::{between, once};
use super::settings::Settings;
use super::{Compiler, Refused, value, words};
use crate::exec::create::is_made_of_names;
use crate::recording::name;

/// What recordings are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordingForm {
    /// Asciicast for a terminal, and JSON in lines for everything else.
    Usual,
    /// JSON in lines for everything.
    Json,
    /// A script for the playback of noVNC.
    Novnc,
}

const FORMS: &[(&str, RecordingForm)] =
    &[("auto", RecordingForm::Usual), ("json", RecordingForm::Json), ("novnc", RecordingForm::Novnc)];

/// Octets of one recording that may wait where nothing is said.
const BUFFER: u64 = 1 << 20;

/// What `buffer=` may be.
const LEAST: u64 = 4 << 10;
const MOST: u64 = 1 << 30;

/// Where the sessions of a location are recorded, and how.
#[derive(Debug, Clone)]
pub struct Recordings<T> {
    /// The full name of the directory that the files are below; it ends with a slash.
    pub directory: Vec<u8>,
    /// The path of the file below it.
    pub file: T,
    /// What they are like.
    pub form: RecordingForm,
    /// Octets of one recording that may wait to be written.
    pub buffer: usize,
}

/// Octets of all recordings of a worker that may wait where nothing is said.
pub const QUEUE: u64 = 16 << 20;

/// What `websocket_record_queue` may be.
const LEAST_QUEUE: u64 = 64 << 10;
const MOST_QUEUE: u64 = 64 << 30;

pub(super) fn queue<C: Compiler>(settings: &mut Settings<C>, _: &mut C, arguments: &[&[u8]]) -> Result<(), Refused> {
    let text = arguments[0];
    let size = value::size(text).and_then(|size| between(text, size, LEAST_QUEUE, MOST_QUEUE));
    once(&mut settings.record_queue, size)
}

const FILE: &str = "the name of a file, or \"off\"";

pub(super) fn record<C: Compiler>(
    settings: &mut Settings<C>,
    compiler: &mut C,
    arguments: &[&[u8]],
) -> Result<(), Refused> {
    let (argument, options) = arguments.split_first().ok_or_else(|| Refused::Usage("a file is missing".to_owned()))?;
    if *argument == b"off" {
        return match options {
            [] => once(&mut settings.recording, Ok(None)),
            [option, ..] => Err(Refused::value(option, "nothing behind \"off\"")),
        };
    }
    if argument.is_empty() || argument.starts_with(b"format=") || argument.starts_with(b"buffer=") {
        return Err(Refused::value(argument, FILE));
    }
    words::no_switch(argument, "the name of a file for each session, with variables that differ")?;
    let (directory, file) = name::split(argument);
    if file.is_empty() {
        return Err(words::wrong(argument, "it is a directory; the name of a file is to follow"));
    }
    if !is_made_of_names(file) {
        let reason = "a name that follows the directory before the first variable is empty, \".\" or \"..\"";
        return Err(words::wrong(argument, reason));
    }
    let (mut form, mut buffer) = (None, None);
    for &option in options {
        match (option.strip_prefix(b"format="), option.strip_prefix(b"buffer=")) {
            (Some(word), _) if form.is_none() => form = Some(value::choice(word, FORMS)?),
            (_, Some(size)) if buffer.is_none() => buffer = Some(between(size, value::size(size)?, LEAST, MOST)?),
            _ => return Err(Refused::value(option, "format=auto|json|novnc or buffer=size, each once")),
        }
    }
    if settings.recording.is_some() {
        return Err(Refused::Duplicate);
    }
    let recordings = Recordings {
        directory: compiler.directory(directory)?,
        file: compiler.compile(file)?,
        form: form.unwrap_or(RecordingForm::Usual),
        buffer: usize::try_from(buffer.unwrap_or(BUFFER)).unwrap_or(usize::MAX),
    };
    once(&mut settings.recording, Ok(Some(Rc::new(recordings))))
}
