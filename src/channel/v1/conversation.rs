// SPDX-License-Identifier: Apache-2.0

//! What one client has subscribed to, and what it waits for.
//!
//! Commands are carried out in their order, but those that wait for somebody else do not hold up the ones behind them, with two
//! exceptions: publications keep their order while a hook decides about one of them, and nothing is done to a channel before it is known
//! whether it is subscribed to. A command that has to wait for one of these is [held](Conversation::hold), and nothing more is taken
//! from the client meanwhile.

use std::collections::VecDeque;

use super::command::{Command, Operation};

/// Answers and commands under way above which nothing more is taken from the client.
const MOST_PENDING: usize = 64;

/// What is to be done about a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// The command can be carried out.
    Now,
    /// The command has to wait: it is to be [held](Conversation::hold).
    Later,
    /// The command is refused, with the status and the reason to be told.
    Refuse(u16, &'static str),
}

/// A channel, or those of the location, that a client has subscribed to or is about to.
#[derive(Debug)]
pub struct Entry<S> {
    /// The channel; `None` for those of the location.
    pub channel: Option<Box<str>>,
    /// The subscription; `None` while it is asked whether there may be one.
    pub subscription: Option<S>,
}

/// A client that speaks the subprotocol; `S` is a subscription.
#[derive(Debug)]
pub struct Conversation<S> {
    /// Subscriptions at once.
    most: usize,
    /// Invariant: no channel is there twice.
    entries: Vec<Entry<S>>,
    answers: VecDeque<String>,
    /// Commands whose answers somebody else has to give. Invariant: those of entries without a subscription are among them.
    underway: usize,
    /// A hook decides about a publication.
    is_deciding: bool,
    /// Commands that have to wait, the oldest first: one, but for those that a client has sent before it went.
    held: VecDeque<Command<'static>>,
    /// The entry that has its turn first.
    turn: usize,
}

impl<S> Conversation<S> {
    /// A client that has subscribed to nothing yet, and to so many at once.
    pub fn new(most: usize) -> Self {
        Conversation {
            most,
            entries: Vec::new(),
            answers: VecDeque::new(),
            underway: 0,
            is_deciding: false,
            held: VecDeque::new(),
            turn: 0,
        }
    }

    /// Whether another command can be taken.
    pub fn accepts(&self) -> bool {
        self.held.is_empty() && !self.is_deciding && self.answers.len() + self.underway < MOST_PENDING
    }

    fn place(&self, channel: Option<&str>) -> Option<usize> {
        self.entries.iter().position(|entry| entry.channel.as_deref() == channel)
    }

    /// What is to be done about a command.
    pub fn begin(&self, command: &Command<'_>) -> Begin {
        if self.held.is_empty() { self.begin_first(command) } else { Begin::Later }
    }

    /// What is to be done with a command that no other one is before.
    fn begin_first(&self, command: &Command<'_>) -> Begin {
        let entry = self.place(command.channel.as_deref()).and_then(|at| self.entries.get(at));
        let is_joining = entry.is_some_and(|entry| entry.subscription.is_none());
        match &command.operation {
            _ if command.channel.as_deref() == Some("") => Begin::Refuse(404, "a channel without a name"),
            Operation::Subscribe { .. } | Operation::Unsubscribe if is_joining => Begin::Later,
            Operation::Subscribe { .. } if entry.is_some() => Begin::Refuse(409, "subscribed already"),
            Operation::Subscribe { .. } if self.entries.len() >= self.most => {
                Begin::Refuse(429, "too many subscriptions")
            }
            Operation::Unsubscribe if entry.is_none() => Begin::Refuse(404, "not subscribed"),
            Operation::Publish(_) if self.is_deciding => Begin::Later,
            Operation::Subscribe { .. }
            | Operation::Unsubscribe
            | Operation::Publish(_)
            | Operation::Presence
            | Operation::Ping => Begin::Now,
        }
    }

    /// Keeps a command that has to wait.
    pub fn hold(&mut self, command: Command<'static>) {
        self.held.push_back(command);
    }

    /// The oldest command that was held, if it has to wait no more, and what is to be done about it.
    pub fn next_held(&mut self) -> Option<(Command<'static>, Begin)> {
        let begin = self.begin_first(self.held.front()?);
        if begin == Begin::Later {
            return None;
        }
        self.held.pop_front().map(|command| (command, begin))
    }

    /// The oldest command that was held, whether it has to wait or not.
    pub fn take_held(&mut self) -> Option<Command<'static>> {
        self.held.pop_front()
    }

    /// The client is about to subscribe: somebody is asked whether it may.
    pub fn joining(&mut self, channel: Option<&str>) {
        debug_assert!(self.place(channel).is_none(), "a channel is subscribed to once");
        self.entries.push(Entry { channel: channel.map(Into::into), subscription: None });
        self.underway += 1;
    }

    /// The client has subscribed: with an answer of somebody who was asked, or without.
    pub fn joined(&mut self, channel: Option<&str>, subscription: S) {
        match self.place(channel).and_then(|at| self.entries.get_mut(at)) {
            Some(entry) => {
                debug_assert!(entry.subscription.is_none(), "a channel is subscribed to once");
                entry.subscription = Some(subscription);
                self.underway = self.underway.saturating_sub(1);
            }
            None => {
                self.entries.push(Entry { channel: channel.map(Into::into), subscription: Some(subscription) });
            }
        }
    }

    /// The client may not subscribe after all.
    pub fn refused(&mut self, channel: Option<&str>) {
        if self.remove(channel).is_none() {
            self.underway = self.underway.saturating_sub(1);
        }
    }

    /// Takes a subscription away.
    pub fn remove(&mut self, channel: Option<&str>) -> Option<S> {
        let at = self.place(channel)?;
        self.entries.swap_remove(at).subscription
    }

    /// A publication is under way; where a hook decides about it, the next one waits for that.
    pub fn publishing(&mut self, by_hook: bool) {
        self.underway += 1;
        self.is_deciding |= by_hook;
    }

    /// A publication has been dealt with.
    pub fn published(&mut self, by_hook: bool) {
        self.underway = self.underway.saturating_sub(1);
        self.is_deciding &= !by_hook;
    }

    /// Something else was asked for, which is answered later.
    pub fn asking(&mut self) {
        self.underway += 1;
    }

    /// Somebody who was asked has answered.
    pub fn answered(&mut self) {
        self.underway = self.underway.saturating_sub(1);
    }

    /// Something is waited for that is somebody else's to do.
    pub fn is_waiting(&self) -> bool {
        self.underway > 0
    }

    /// Lets the client be told.
    pub fn answer(&mut self, text: String) {
        self.answers.push_back(text);
    }

    /// What the client is to be told next.
    pub fn next_answer(&mut self) -> Option<String> {
        self.answers.pop_front()
    }

    /// Whether the client has been told everything.
    pub fn is_told(&self) -> bool {
        self.answers.is_empty()
    }

    /// Forgets everything; the subscriptions are dropped.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.held.clear();
    }

    /// All that it has subscribed to, and is about to.
    pub fn entries(&mut self) -> &mut [Entry<S>] {
        &mut self.entries
    }

    /// The entry that has its turn: each has it first once in a while. `None` when all have had theirs in this round.
    pub fn in_turn(&mut self, nth: usize) -> Option<&mut Entry<S>> {
        let count = self.entries.len();
        if nth >= count {
            return None;
        }
        let at = (self.turn + nth) % count;
        self.entries.get_mut(at)
    }

    /// The next round begins after this entry of the present one, which was the last that got something.
    pub fn go_on_after(&mut self, nth: usize) {
        self.turn = (self.turn + nth + 1) % self.entries.len().max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> Command<'_> {
        Command::parse(text.as_bytes()).unwrap()
    }

    const A: &str = r#"{"op":"subscribe","channel":"a"}"#;
    const NOT_A: &str = r#"{"op":"unsubscribe","channel":"a"}"#;
    const TO_A: &str = r#"{"op":"publish","channel":"a","data":""}"#;
    const OWN: &str = r#"{"op":"subscribe"}"#;

    #[test]
    fn a_channel_is_subscribed_to_once() {
        let mut client = Conversation::new(2);
        assert_eq!(client.begin(&command(A)), Begin::Now);
        client.joined(Some("a"), 1);
        assert_eq!(client.begin(&command(A)), Begin::Refuse(409, "subscribed already"));
        assert_eq!(client.begin(&command(OWN)), Begin::Now, "those of the location are others");
        client.joined(None, 2);
        assert_eq!(client.begin(&command(OWN)), Begin::Refuse(409, "subscribed already"));
        let b = command(r#"{"op":"subscribe","channel":"b"}"#);
        assert_eq!(client.begin(&b), Begin::Refuse(429, "too many subscriptions"));
        assert_eq!(client.begin(&command(NOT_A)), Begin::Now);
        assert_eq!(client.remove(Some("a")), Some(1));
        assert_eq!(client.begin(&command(NOT_A)), Begin::Refuse(404, "not subscribed"));
        assert_eq!(client.begin(&b), Begin::Now);
        let nothing = command(r#"{"op":"presence","channel":""}"#);
        assert!(matches!(client.begin(&nothing), Begin::Refuse(404, _)));
    }

    #[test]
    fn what_depends_on_an_answer_waits_for_it() {
        let mut client: Conversation<u8> = Conversation::new(8);
        client.joining(Some("a"));
        assert!(client.accepts() && client.is_waiting());
        assert_eq!(client.begin(&command(TO_A)), Begin::Now);
        assert_eq!(client.begin(&command(OWN)), Begin::Now, "another channel does not wait");
        assert_eq!(client.begin(&command(NOT_A)), Begin::Later);
        client.hold(command(NOT_A).into_owned());
        assert!(!client.accepts() && client.next_held().is_none());
        assert_eq!(client.begin(&command(OWN)), Begin::Later, "what comes all the same is behind it");
        client.joined(Some("a"), 1);
        assert_eq!(client.next_held(), Some((command(NOT_A).into_owned(), Begin::Now)));
        assert!(client.accepts() && !client.is_waiting());
        client.remove(Some("a"));
        client.joining(Some("a"));
        client.refused(Some("a"));
        assert!(!client.is_waiting());
        assert_eq!(client.begin(&command(A)), Begin::Now, "it may ask again");
    }

    #[test]
    fn publications_keep_their_order() {
        let mut client: Conversation<u8> = Conversation::new(8);
        client.publishing(true);
        assert!(!client.accepts());
        assert_eq!(client.begin(&command(TO_A)), Begin::Later);
        client.published(true);
        client.publishing(false);
        assert!(client.accepts(), "an engine takes the next one before it has answered");
        assert_eq!(client.begin(&command(TO_A)), Begin::Now);
    }

    #[test]
    fn a_client_that_takes_no_answers_is_not_heard() {
        let mut client: Conversation<u8> = Conversation::new(8);
        for _ in 0..MOST_PENDING - 1 {
            client.answer(String::new());
        }
        assert!(client.accepts());
        client.publishing(false);
        assert!(!client.accepts());
        client.next_answer();
        assert!(client.accepts() && !client.is_told());
    }

    #[test]
    fn a_round_begins_after_the_last_one_that_got_something() {
        let mut client = Conversation::new(8);
        client.go_on_after(0);
        assert!(client.in_turn(0).is_none());
        for name in ["a", "b", "c"] {
            client.joined(Some(name), name);
        }
        let mut round = |last| {
            let round: Vec<_> = (0..4).filter_map(|nth| client.in_turn(nth)?.subscription).collect();
            client.go_on_after(last);
            round.concat()
        };
        assert_eq!([round(0), round(1), round(2), round(0)], ["abc", "bca", "abc", "abc"]);
        assert_eq!(round(0), "bca");
    }
}
