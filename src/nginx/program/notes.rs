// SPDX-License-Identifier: Apache-2.0

//! What a program notes for the access log (`$websocket_exec_note_name`), and the descriptor on which it does so.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::conf::Settings;
use crate::exec::framing::Format;
use crate::exec::notes::{self, Limit, Lines};
use crate::nginx::log::{self, Level};
use crate::nginx::pipe::{self, Listener, Pipe, Read};
use crate::nginx::template::NginxCompiler;
use crate::nginx::user::User;
use crate::session::buffers;

/// Octets that are read in one turn: a program that floods its notes gets no more than its share.
const TURN: usize = 64 << 10;

/// Octets that are read once it has ended: so many a pipe holds at most that no privileged process has enlarged.
const LAST: usize = 1 << 20;

/// How the programs of a location note something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noting {
    limit: Limit,
    /// They have a descriptor for it.
    has_descriptor: bool,
}

impl Noting {
    /// For programs that talk to WebSockets, whose records may be notes as well; `None` if they cannot note anything.
    pub fn of(settings: &Settings<NginxCompiler>) -> Option<Self> {
        let speaks_records = settings.exec_format() == Format::Messages;
        (speaks_records || settings.exec_notes())
            .then(|| Noting { limit: settings.exec_notes_limit(), has_descriptor: settings.exec_notes() })
    }

    /// For programs that answer requests; `None` if they cannot note anything.
    pub fn by_descriptor(settings: &Settings<NginxCompiler>) -> Option<Self> {
        settings.exec_notes().then(|| Noting { limit: settings.exec_notes_limit(), has_descriptor: true })
    }

    /// Whether they have a descriptor for it.
    pub fn has_descriptor(self) -> bool {
        self.has_descriptor
    }

    /// For a program that the log calls by this name, and the program's own end of the pipe.
    ///
    /// # Errors
    ///
    /// There are no descriptors or connections left.
    pub fn open(self, name: &str, user: Option<&User>, listener: Listener) -> io::Result<(Notes, Option<OwnedFd>)> {
        let (pipe, theirs) = if self.has_descriptor {
            let (ours, theirs) = pipe::pair(true)?;
            if user.is_some() {
                pipe::let_open(&theirs);
            }
            (Some(listener.watch(ours)?), Some(theirs))
        } else {
            (None, None)
        };
        let kept = Rc::new(notes::Notes::new(self.limit));
        Ok((Notes { kept, pipe, lines: Lines::default(), name: name.to_owned(), listener }, theirs))
    }
}

/// What a program has noted, and what it still notes.
pub struct Notes {
    kept: Rc<notes::Notes>,
    /// Our end of the pipe, until nobody holds the other one any more; none without a descriptor.
    pipe: Option<Pipe>,
    lines: Lines,
    /// How the log calls the program.
    name: String,
    /// Who hears of the pipe, and whose log is told what is dropped.
    listener: Listener,
}

impl Notes {
    /// What was noted, for whoever logs it.
    pub fn kept(&self) -> &Rc<notes::Notes> {
        &self.kept
    }

    /// Tells another listener from now on.
    pub fn listen(&mut self, listener: Listener) {
        self.listener = listener;
        if let Some(pipe) = &self.pipe {
            pipe.listen(listener);
        }
    }

    /// Takes a note that came as a record.
    pub fn take(&mut self, text: &[u8]) {
        if let Some(dropped) = self.kept.take(text) {
            tell(&self.name, self.listener, &dropped);
        }
    }

    /// Takes what is there. Whether anything was.
    pub fn read(&mut self) -> bool {
        self.read_some(TURN, false)
    }

    /// Takes all that is there, whether there was an event or not.
    pub fn read_all(&mut self) {
        self.read_some(LAST, true);
    }

    /// The program has ended: takes all that it has written, also a last line without newline.
    pub fn finish(&mut self) {
        self.read_all();
        let Notes { kept, lines, name, listener, .. } = self;
        lines.finish(kept, |dropped| tell(name, *listener, &dropped));
    }

    fn read_some(&mut self, most: usize, looks: bool) -> bool {
        let Notes { kept, pipe: own, lines, name, listener } = self;
        let mut count = 0;
        let mut ended = false;
        let mut buffer = buffers::take_reading();
        while count < most
            && let Some(pipe) = own
            && (looks || pipe.readable())
        {
            match pipe.read(&mut buffer) {
                Read::Data(octets) => {
                    count += octets;
                    lines.take(&buffer[..octets], kept, |dropped| tell(name, *listener, &dropped));
                }
                Read::Blocked => break,
                Read::End | Read::HungUp => {
                    ended = true;
                    break;
                }
            }
        }
        buffers::put_reading(buffer);
        if ended {
            *own = None;
            lines.finish(kept, |dropped| tell(name, *listener, &dropped));
        } else if let Some(pipe) = own {
            pipe.watch_read(true);
        }
        count > 0
    }
}

fn tell(name: &str, listener: Listener, dropped: &notes::Dropped) {
    log::write(listener.log, Level::Warn, format_args!("{name}: {dropped}"));
}
