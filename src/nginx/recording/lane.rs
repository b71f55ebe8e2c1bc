// SPDX-License-Identifier: Apache-2.0

//! What of one recording has not come to the process that writes it.

use std::fmt::Arguments;
use std::mem;

use crate::nginx::ffi;
use crate::nginx::log::{self, Level};
use crate::recording::queue::Queue;

/// What waits for the process of one recording.
pub struct Lane {
    /// How the log calls it.
    pub name: String,
    /// The log of the session, as long as that lives; null later.
    pub log: *mut ffi::ngx_log_t,
    /// The directory and the path of the file, until the process knows them.
    pub file: Option<(Vec<u8>, Vec<u8>)>,
    pub queue: Queue,
    /// What had no room for some of it.
    pub full: Full,
    /// Nothing of it is written any more.
    pub has_failed: bool,
    /// The session has ended.
    pub has_ended: bool,
    /// The process has been told so.
    pub is_closed: bool,
    /// It is among those that wait.
    pub waits: bool,
}

/// Which limits something of a recording was beyond.
#[derive(Debug, Default)]
pub struct Full {
    pub own: bool,
    pub total: bool,
}

impl Full {
    pub fn directives(&self) -> &'static str {
        match (self.own, self.total) {
            (_, false) => "\"buffer\" had no room",
            (false, true) => "\"websocket_record_queue\" had no room",
            (true, true) => "\"buffer\" and \"websocket_record_queue\" had no room",
        }
    }
}

impl Lane {
    /// Nothing of this recording was passed on yet.
    pub fn new(name: String, log: *mut ffi::ngx_log_t, file: (Vec<u8>, Vec<u8>), queue: Queue) -> Self {
        Lane {
            name,
            log,
            file: Some(file),
            queue,
            full: Full::default(),
            has_failed: false,
            has_ended: false,
            is_closed: false,
            waits: false,
        }
    }

    /// Octets that it takes beside those that are queued.
    pub fn size(&self) -> usize {
        let file = self.file.as_ref().map_or(0, |(directory, path)| directory.len() + path.len());
        size_of::<Self>() + self.name.len() + file
    }

    /// The session has ended. As there may be any number of such lanes, they count in the total.
    pub fn finish(&mut self) {
        if !mem::replace(&mut self.has_ended, true) {
            self.queue.count(self.size());
        }
    }

    pub fn report(&self, level: Level, text: Arguments<'_>) {
        let name = &self.name;
        if self.log.is_null() {
            log::cycle(level, format_args!("ws_exec: the recording {name} {text}"));
        } else {
            log::write(self.log, level, format_args!("the recording {name} {text}"));
        }
    }

    /// Whether there is something to send.
    pub fn has_work(&self) -> bool {
        !self.has_failed && (self.file.is_some() || !self.queue.is_empty() || (self.has_ended && !self.is_closed))
    }

    /// Nothing more of it is written; the text says why.
    pub fn fail(&mut self, text: Arguments<'_>) {
        if !mem::replace(&mut self.has_failed, true) {
            self.report(Level::Error, text);
            self.queue.clear();
            self.file = None;
        }
    }
}
