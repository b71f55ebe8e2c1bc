// SPDX-License-Identifier: Apache-2.0

//! The incoming side: octets become frames, frames become messages.

use std::ops::Range;

use super::Limits;
use crate::ws::close::{self, CloseCode};
use crate::ws::deflate::{Agreed, Corrupt, End, History, Inflater};
use crate::ws::frame::{ClientHeader, Expected, MAX_CLIENT_HEADER, MAX_CONTROL, MessageKind, Opcode};
use crate::ws::mask;
use crate::ws::scratch::{INFLATED, Scratch};
use crate::ws::utf8::Validator;
use crate::ws::violation::Violation;

/// What the reader found.
pub(super) enum Item<'r> {
    /// A piece of a message.
    Piece { kind: MessageKind, payload: Payload, first: bool, last: bool, pending: usize },
    /// A Ping; [`Reader::control`] is its payload.
    Ping,
    /// A Pong.
    Pong,
    /// A Close.
    Close { code: Option<CloseCode>, reason: &'r str },
    /// A rule was broken; the reader must not be asked again.
    Violation(Violation),
}

/// Where the octets of a piece are.
pub(super) enum Payload {
    /// In the input, unmasked.
    Input(Range<usize>),
    /// So many octets at the beginning of [`Scratch::inflated`].
    Inflated(usize),
}

/// The frame whose payload is being read.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    key: [u8; 4],
    phase: u8,
    /// Octets of the payload that have not been read.
    left: u64,
}

impl Frame {
    /// How many of so many octets belong to it; a length above usize is cut to what is there.
    fn here(self, available: usize) -> usize {
        usize::try_from(self.left).map_or(available, |left| left.min(available))
    }

    /// What is left of it after so many octets.
    fn after(self, octets: usize) -> Option<Self> {
        let left = self.left - octets as u64;
        (left > 0).then_some(Self { left, ..self })
    }
}

/// The message that is being read.
#[derive(Debug, Clone, Copy)]
struct Message {
    kind: MessageKind,
    /// No piece of it was handed on yet.
    fresh: bool,
    /// Frames of the message so far.
    fragments: u32,
    /// Its payload is compressed.
    compressed: bool,
    /// Octets so far, those of the current frame included; of a compressed message those that came out.
    octets: u64,
    text: Validator,
}

/// The state of the incoming side.
#[derive(Debug)]
pub(super) struct Reader {
    limits: Limits,
    frame: Option<Frame>,
    message: Option<Message>,
    deflate: Option<Agreed>,
    /// While a message is unfinished, or from the first compressed one on if the connection has one of its own.
    inflater: Option<Box<Inflater>>,
    /// What the client's next message may refer to.
    history: History,
    /// The beginning of a header whose rest has not arrived.
    head: [u8; MAX_CLIENT_HEADER],
    head_len: u8,
    /// The payload of the current control frame so far.
    control: [u8; MAX_CONTROL],
    control_len: u8,
}

impl Reader {
    pub(super) fn new(limits: Limits, deflate: Option<Agreed>) -> Self {
        Self {
            limits,
            frame: None,
            message: None,
            deflate,
            inflater: None,
            history: History::default(),
            head: [0; MAX_CLIENT_HEADER],
            head_len: 0,
            control: [0; MAX_CONTROL],
            control_len: 0,
        }
    }

    /// The payload of the control frame that was read last.
    pub(super) fn control(&self) -> &[u8] {
        self.control.get(..usize::from(self.control_len)).unwrap_or_default()
    }

    /// The opcode of the next frame, if the beginning of one is known.
    pub(super) fn next_opcode(&self, input: &[u8]) -> Option<Opcode> {
        let first = match (self.frame, self.head_len) {
            (Some(_), _) => return None,
            (None, 0) => input.first(),
            (None, _) => self.head.first(),
        };
        Opcode::new(first? & 0x0F)
    }

    /// Whether a message has begun and not ended.
    pub(super) fn in_message(&self) -> bool {
        self.message.is_some()
    }

    #[cfg(test)]
    pub(super) fn holds_inflater(&self) -> bool {
        self.inflater.is_some()
    }

    /// How many octets may be referred to.
    #[cfg(test)]
    pub(super) fn history(&self) -> usize {
        self.history.octets().len()
    }

    /// Reads up to the first item and returns how much of the input that took. Without an item it took everything.
    /// `discard`: only control frames are of interest.
    pub(super) fn next(&mut self, input: &mut [u8], scratch: &mut Scratch, discard: bool) -> (usize, Option<Item<'_>>) {
        let mut at = 0;
        loop {
            let rest = input.get_mut(at..).unwrap_or_default();
            let frame = match self.frame {
                Some(frame) => frame,
                None => match self.begin(rest, discard) {
                    Ok((used, frame)) => {
                        at += used;
                        match frame {
                            Some(frame) => frame,
                            None => return (at, None),
                        }
                    }
                    Err(violation) => return (at, Some(Item::Violation(violation))),
                },
            };
            let rest = input.get_mut(at..).unwrap_or_default();
            if frame.opcode.is_control() {
                let (used, complete) = self.control_payload(frame, rest);
                return (at + used, complete.then(|| self.control_frame(frame.opcode)));
            }
            let (used, item) = if discard {
                (self.skip(frame, rest), None)
            } else if self.message.is_some_and(|message| message.compressed) {
                self.compressed(frame, rest, scratch)
            } else {
                self.plain(frame, rest, at)
            };
            at += used;
            match item {
                // The frame is over and had nothing to tell.
                None if self.frame.is_none() => {}
                item => return (at, item),
            }
        }
    }

    /// Takes what is here of the payload of a control frame, and unmasks it when it is complete.
    fn control_payload(&mut self, frame: Frame, rest: &[u8]) -> (usize, bool) {
        let here = frame.here(rest.len());
        self.keep_control(rest.get(..here).unwrap_or_default());
        let after = frame.after(here);
        self.frame = after;
        if after.is_none() {
            let payload = self.control.get_mut(..usize::from(self.control_len)).unwrap_or_default();
            let _ = mask::apply(payload, frame.key, 0);
        }
        (here, after.is_none())
    }

    /// Takes what is here of a data frame that nobody wants.
    fn skip(&mut self, frame: Frame, rest: &[u8]) -> usize {
        let here = frame.here(rest.len());
        self.frame = frame.after(here);
        if self.frame.is_none() && frame.fin {
            self.message = None;
            self.inflater = None;
        }
        here
    }

    /// Goes on with an uncompressed message, whose current frame has the rest of its payload in `rest`, which is `at`
    /// octets behind the beginning of the input. Returns how much of that it took and what there is to tell.
    fn plain(&mut self, frame: Frame, rest: &mut [u8], at: usize) -> (usize, Option<Item<'static>>) {
        let here = frame.here(rest.len());
        let (Some(payload), Some(message)) = (rest.get_mut(..here), &mut self.message) else { return (0, None) };
        let phase = match unmask(payload, frame, message) {
            Ok(phase) => phase,
            Err(violation) => return (here, Some(Item::Violation(violation))),
        };
        self.frame = frame.after(here).map(|frame| Frame { phase, ..frame });
        let last = self.frame.is_none() && frame.fin;
        let (kind, first, pending) = (message.kind, message.fresh, message.text.pending());
        if last {
            let complete = message.text.finish();
            self.message = None;
            if complete.is_err() {
                return (here, Some(Item::Violation(Violation::Text)));
            }
        } else if here == 0 {
            // An empty fragment, or a frame whose payload has not arrived.
            return (0, None);
        } else {
            message.fresh = false;
        }
        (here, Some(Item::Piece { kind, payload: Payload::Input(at..at + here), first, last, pending }))
    }

    /// Reads the header of the next frame, and starts its message if it is a first one. Returns how many octets that
    /// took and the frame, or no frame if the octets do not complete a header; then all were taken.
    fn begin(&mut self, input: &[u8], discard: bool) -> Result<(usize, Option<Frame>), Violation> {
        let expected = Expected { continuation: self.message.is_some(), compression: self.deflate.is_some() };
        let (header, used) = if self.head_len == 0 {
            match ClientHeader::parse(input, expected)? {
                Some(parsed) => parsed,
                None => {
                    self.keep_head(input);
                    return Ok((input.len(), None));
                }
            }
        } else {
            let before = usize::from(self.head_len);
            self.keep_head(input);
            let head = self.head.get(..usize::from(self.head_len)).unwrap_or_default();
            match ClientHeader::parse(head, expected)? {
                Some((header, used)) => {
                    self.head_len = 0;
                    (header, used - before)
                }
                None => return Ok((input.len(), None)),
            }
        };
        if header.opcode.is_control() {
            self.control_len = 0;
        } else {
            self.begin_data(header, discard)?;
        }
        let frame = Frame { opcode: header.opcode, fin: header.fin, key: header.key, phase: 0, left: header.len };
        self.frame = Some(frame);
        Ok((used, Some(frame)))
    }

    /// A data frame begins: its message, and the limits, which are decided by the declared length.
    fn begin_data(&mut self, header: ClientHeader, discard: bool) -> Result<(), Violation> {
        let kind = match header.opcode {
            Opcode::Text => MessageKind::Text,
            _ => MessageKind::Binary,
        };
        let compressed = header.rsv1;
        let fresh = Message { kind, fresh: true, fragments: 0, compressed, octets: 0, text: Validator::new() };
        let message = self.message.get_or_insert(fresh);
        if discard {
            return Ok(());
        }
        if exceeds(header.len, self.limits.frame) {
            return Err(Violation::FrameTooBig);
        }
        if !message.compressed {
            message.octets = message.octets.saturating_add(header.len);
            if exceeds(message.octets, self.limits.message) {
                return Err(Violation::MessageTooBig);
            }
        }
        message.fragments = message.fragments.saturating_add(1);
        if exceeds(message.fragments.into(), self.limits.fragments.into()) {
            return Err(Violation::TooManyFragments);
        }
        Ok(())
    }

    /// Goes on with a compressed message, whose current frame has the rest of its payload in `rest`. Returns how much
    /// of that it took and what there is to tell. Without an item, the frame is over or more octets are needed.
    fn compressed(
        &mut self,
        mut frame: Frame,
        rest: &mut [u8],
        scratch: &mut Scratch,
    ) -> (usize, Option<Item<'static>>) {
        let Some(mut message) = self.message else { return (0, None) };
        scratch.make_inflated();
        let inflater = self.inflater.get_or_insert_with(|| scratch.pool.inflater(self.history.octets()));
        // One octet over the limit is enough to see that it is exceeded.
        let room = match self.limits.message {
            0 => usize::MAX,
            limit => usize::try_from(limit.saturating_sub(message.octets)).unwrap_or(usize::MAX).saturating_add(1),
        };
        let room = room.min(scratch.inflated.len());
        let out = scratch.inflated.get_mut(..room).unwrap_or_default();
        let progress = inflate(inflater, &mut frame, rest, out);
        message.octets += progress.made as u64;
        // Of several violations the first counts, however the frame was cut: what came out before the data turned out
        // corrupt is checked, but not the octet over the limit.
        let over_limit = exceeds(message.octets, self.limits.message);
        let made = out.get(..progress.made - usize::from(over_limit)).unwrap_or_default();
        let wrong = if message.kind == MessageKind::Text && message.text.push(made).is_err() {
            Some(Violation::Text)
        } else if over_limit {
            Some(Violation::MessageTooBig)
        } else {
            progress.corrupt.then_some(Violation::Deflate)
        };
        if let Some(violation) = wrong {
            return (progress.used, Some(Item::Violation(violation)));
        }
        self.history.append(made, self.deflate.map_or(0, |agreed| agreed.client_history()));
        let (kind, first, pending) = (message.kind, message.fresh, message.text.pending());
        let over = frame.left == 0 && (progress.complete || !frame.fin);
        self.frame = (!over).then_some(frame);
        if progress.complete {
            self.message = None;
            if message.text.finish().is_err() {
                return (progress.used, Some(Item::Violation(Violation::Text)));
            }
            if self.deflate.is_some_and(|agreed| !agreed.keeps_inflater())
                && let Some(inflater) = self.inflater.take()
            {
                scratch.pool.keep_inflater(inflater);
            }
        } else {
            message.fresh &= progress.made == 0;
            self.message = Some(message);
            if progress.made == 0 {
                return (progress.used, None);
            }
        }
        let payload = Payload::Inflated(progress.made);
        (progress.used, Some(Item::Piece { kind, payload, first, last: progress.complete, pending }))
    }

    /// Keeps the octets of an unfinished header, as many as a header can have.
    fn keep_head(&mut self, octets: &[u8]) {
        for (slot, octet) in self.head.iter_mut().skip(self.head_len.into()).zip(octets) {
            *slot = *octet;
            self.head_len += 1;
        }
    }

    /// Keeps the payload of a control frame, still masked.
    fn keep_control(&mut self, octets: &[u8]) {
        for (slot, octet) in self.control.iter_mut().skip(self.control_len.into()).zip(octets) {
            *slot = *octet;
            self.control_len += 1;
        }
    }

    /// A control frame is complete.
    fn control_frame(&self, opcode: Opcode) -> Item<'_> {
        match opcode {
            Opcode::Ping => Item::Ping,
            Opcode::Close => match close::parse(self.control()) {
                Ok((code, reason)) => Item::Close { code, reason },
                Err(wrong) => Item::Violation(wrong.into()),
            },
            Opcode::Pong | Opcode::Continuation | Opcode::Text | Opcode::Binary => Item::Pong,
        }
    }
}

/// Octets that are unmasked before they are checked: few enough to be found in the cache then.
const STRIDE: usize = 8192;

/// Unmasks a piece of a frame and checks it; returns the phase of the mask behind it.
fn unmask(payload: &mut [u8], frame: Frame, message: &mut Message) -> Result<u8, Violation> {
    let mut phase = frame.phase;
    match message.kind {
        MessageKind::Binary => phase = mask::apply(payload, frame.key, phase),
        MessageKind::Text => {
            for part in payload.chunks_mut(STRIDE) {
                phase = mask::apply(part, frame.key, phase);
                message.text.push(part)?;
            }
        }
    }
    Ok(phase)
}

/// What [`inflate`] did.
struct Progress {
    /// Octets of the frame that were taken.
    used: usize,
    /// Octets that came out.
    made: usize,
    /// The message is over, and all of it came out.
    complete: bool,
    /// The data is corrupt after what came out.
    corrupt: bool,
}

/// Inflates what is here of a frame, until the frame is over or enough came out. What was not taken is left masked. When
/// all of the input is taken, everything that it inflates to is out: nobody has to ask again without input.
fn inflate(inflater: &mut Inflater, frame: &mut Frame, rest: &mut [u8], out: &mut [u8]) -> Progress {
    let mut progress = Progress { used: 0, made: 0, complete: false, corrupt: false };
    while !progress.complete && !progress.corrupt {
        let enough = if progress.used < rest.len() { out.len().min(INFLATED) } else { out.len() };
        if progress.made >= enough {
            break;
        }
        let out = out.get_mut(..enough).unwrap_or_default();
        if frame.left > 0 {
            let here = frame.here(rest.len() - progress.used).min(STRIDE);
            let Some(part) = rest.get_mut(progress.used..progress.used + here).filter(|part| !part.is_empty()) else {
                break;
            };
            let _ = mask::apply(part, frame.key, frame.phase);
            let Ok(taken) = inflater.push(part, out, &mut progress.made) else {
                progress.corrupt = true;
                break;
            };
            let (done, todo) = part.split_at_mut(taken.min(here));
            frame.phase = mask::after(frame.phase, done.len());
            let _ = mask::apply(todo, frame.key, frame.phase);
            frame.left -= done.len() as u64;
            progress.used += done.len();
        } else if frame.fin {
            match inflater.finish(out, &mut progress.made) {
                Ok(end) => progress.complete = end == End::Done,
                Err(Corrupt) => progress.corrupt = true,
            }
        } else {
            break;
        }
    }
    progress
}

/// Whether a size is over a limit; 0 is none.
fn exceeds(size: u64, limit: u64) -> bool {
    limit != 0 && size > limit
}
