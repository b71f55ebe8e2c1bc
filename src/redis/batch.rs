// SPDX-License-Identifier: Apache-2.0

//! Publications that count only once replicas have them (`websocket_channel_redis_replicas`): one `WAIT` for as many as were published
//! since the one before.
//!
//! WAIT asks for the replicas that have what *its own connection* has written, and holds that connection up: so these publications have one
//! that carries nothing else, and what comes while a WAIT is on its way is the next batch. Who owns the connection passes its
//! events in and takes [`PublicationOutcome`]s out.

use std::collections::VecDeque;

use super::command::append;
use super::connection::{Connection, Event, Token, Unanswered};
use super::error::ErrorReply;
use super::resp::Value;

/// Octets of one batch: more are sent with the next one.
const MOST_OCTETS: usize = 4 << 20;

/// How long before the first publication of a batch is late its WAIT is answered in any case, in milliseconds, but for a quarter of
/// the time that is left at most: the answer has to arrive.
const MARGIN: u64 = 250;

/// A publication that was not sent yet.
#[derive(Debug)]
struct Queued {
    token: Token,
    command: Vec<u8>,
    asking: bool,
    deadline: u64,
}

/// A publication that was sent.
#[derive(Debug)]
struct Sent {
    token: Token,
    /// What the master has answered.
    reply: Option<Value>,
}

/// What became of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicationOutcome {
    /// The master has answered; if not by an error, the replicas have it too.
    Answered(Token, Value),
    /// The publication was not done, or nobody knows whether enough servers have it.
    Failed(Token, Unanswered),
}

/// The publications of one connection.
#[derive(Debug)]
pub struct Batches {
    replicas: u64,
    /// Publications that may wait, sent or not.
    most: usize,
    queued: VecDeque<Queued>,
    sent: Vec<Sent>,
    /// The WAIT that is on its way. Invariant: it is there as long as `sent` is not empty.
    wait: Option<Token>,
    outcomes: VecDeque<PublicationOutcome>,
    octets: usize,
}

impl Batches {
    /// Publications are to be at so many replicas; of at most `most` at once.
    pub fn new(replicas: u64, most: usize) -> Self {
        Batches {
            replicas,
            most,
            queued: VecDeque::new(),
            sent: Vec::new(),
            wait: None,
            outcomes: VecDeque::new(),
            octets: 0,
        }
    }

    /// Publishes, with the next batch; `ASKING` goes before it if that is told. `false` if as many wait as may.
    pub fn push(&mut self, token: Token, command: Vec<u8>, asking: bool, deadline: u64) -> bool {
        if self.queued.len() + self.sent.len() >= self.most {
            return false;
        }
        self.octets += command.len();
        self.queued.push_back(Queued { token, command, asking, deadline });
        true
    }

    /// Octets that were not sent yet.
    pub fn octets(&self) -> usize {
        self.octets
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.sent.is_empty() && self.outcomes.is_empty()
    }

    /// Sends a batch, if none is on its way. `next` names the WAIT.
    pub fn send(&mut self, connection: &mut Connection, mut next: impl FnMut() -> Token, now: u64) {
        if self.wait.is_some() || !connection.is_ready() {
            return;
        }
        self.drop_late(now);
        let Some(first) = self.queued.front() else { return };
        let left = first.deadline.saturating_sub(now);
        let patience = left.saturating_sub(MARGIN.min(left / 4)).max(1);
        let mut octets = 0;
        while octets < MOST_OCTETS
            && let Some(queued) = self.queued.pop_front()
        {
            octets += queued.command.len();
            let write = |out: &mut Vec<u8>| out.extend_from_slice(&queued.command);
            if connection.command_as(queued.token, queued.asking, now, write).is_err() {
                self.queued.push_front(queued);
                break;
            }
            self.octets -= queued.command.len();
            self.sent.push(Sent { token: queued.token, reply: None });
        }
        if self.sent.is_empty() {
            return;
        }
        let wait = next();
        let (replicas, patience) = (self.replicas.to_string(), patience.to_string());
        let asked = connection.command(wait, now, |out| {
            append(&[b"WAIT", replicas.as_bytes(), patience.as_bytes()], out);
        });
        // Who gives a connection for this lets it take one command more than `most`.
        debug_assert!(asked.is_ok(), "there is room for the WAIT");
        self.wait = Some(wait);
    }

    /// Something has happened on the connection.
    pub fn on_event(&mut self, event: &Event) {
        match event {
            Event::Answered(token, reply) if Some(*token) == self.wait => {
                self.wait = None;
                let count = reply.number().and_then(|count| u64::try_from(count).ok());
                let enough = count.is_some_and(|count| count >= self.replicas);
                self.finish(enough);
            }
            Event::Answered(token, reply) => {
                let Some(at) = self.sent.iter().position(|sent| sent.token == *token) else { return };
                if ErrorReply::of(reply).is_some() {
                    self.sent.remove(at);
                    self.outcomes.push_back(PublicationOutcome::Answered(*token, reply.clone()));
                } else {
                    self.sent[at].reply = Some(reply.clone());
                }
            }
            Event::Abandoned(token, unanswered) => {
                if Some(*token) == self.wait {
                    // The master has the publications that were answered, and who else has them nobody knows.
                    self.wait = None;
                    return self.finish(false);
                }
                let Some(at) = self.sent.iter().position(|sent| sent.token == *token) else { return };
                self.sent.remove(at);
                self.outcomes.push_back(PublicationOutcome::Failed(*token, *unanswered));
            }
            Event::Ended(_) => self.give_up(),
            Event::Ready(_) | Event::Notice(_) | Event::NotSubscribed(..) => {}
        }
    }

    /// Nothing that was not sent will be.
    pub fn give_up(&mut self) {
        self.octets = 0;
        let queued = self.queued.drain(..);
        self.outcomes.extend(queued.map(|queued| PublicationOutcome::Failed(queued.token, Unanswered::NotSent)));
    }

    /// Who waits too long for the batch before is not published any more: its publisher is answered in time.
    pub fn drop_late(&mut self, now: u64) {
        while self.queued.front().is_some_and(|queued| queued.deadline <= now)
            && let Some(queued) = self.queued.pop_front()
        {
            self.octets -= queued.command.len();
            self.outcomes.push_back(PublicationOutcome::Failed(queued.token, Unanswered::NotSent));
        }
    }

    /// When [`drop_late`](Self::drop_late) is to be called.
    pub fn deadline(&self) -> Option<u64> {
        self.queued.front().map(|queued| queued.deadline)
    }

    /// What has become of publications.
    pub fn next_outcome(&mut self) -> Option<PublicationOutcome> {
        self.outcomes.pop_front()
    }

    fn finish(&mut self, enough: bool) {
        for sent in self.sent.drain(..) {
            let outcome = match sent.reply {
                Some(reply) if enough => PublicationOutcome::Answered(sent.token, reply),
                _ => PublicationOutcome::Failed(sent.token, Unanswered::Unknown),
            };
            self.outcomes.push_back(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::redis::connection::{End, Purpose, Settings};
    use crate::redis::resp::Limits;

    struct Pair {
        batches: Batches,
        connection: Connection,
        waits: u64,
        now: u64,
    }

    impl Pair {
        /// A connection on which nothing was asked yet; a Sentinel's, which has the shortest greeting.
        fn new(most: usize) -> Self {
            let settings = Settings {
                purpose: Purpose::Sentinel,
                user: None,
                password: None,
                database: 0,
                timeout: 1000,
                most_pending: most + 1,
                limits: Limits::default(),
            };
            let mut connection = Connection::new(Rc::new(settings), 0, 1000);
            let hello = connection.take_outgoing().len();
            connection.sent(hello);
            connection.receive(b"%3\r\n+server\r\n+redis\r\n+version\r\n+7.0.15\r\n+mode\r\n+sentinel\r\n", 0);
            assert!(matches!(connection.next_event(), Some(Event::Ready(_))));
            Pair { batches: Batches::new(2, most), connection, waits: 1000, now: 0 }
        }

        fn push(&mut self, number: u64) -> bool {
            self.batches.push(Token(number), format!("P{number};").into_bytes(), false, self.now + 1000)
        }

        /// What is sent.
        fn send(&mut self) -> String {
            let waits = &mut self.waits;
            let next = || {
                *waits += 1;
                Token(*waits)
            };
            self.batches.send(&mut self.connection, next, self.now);
            let octets = self.connection.take_outgoing();
            self.connection.sent(octets.len());
            String::from_utf8(octets).unwrap().replace("\r\n", " ")
        }

        fn says(&mut self, octets: &[u8]) -> Vec<PublicationOutcome> {
            for octet in octets {
                self.connection.receive(std::slice::from_ref(octet), self.now);
                self.take();
            }
            self.outcomes()
        }

        fn take(&mut self) {
            while let Some(event) = self.connection.next_event() {
                self.batches.on_event(&event);
            }
        }

        fn outcomes(&mut self) -> Vec<PublicationOutcome> {
            std::iter::from_fn(|| self.batches.next_outcome()).collect()
        }
    }

    fn answered(number: u64, reply: i64) -> PublicationOutcome {
        PublicationOutcome::Answered(Token(number), Value::Integer(reply))
    }

    #[test]
    fn one_wait_is_for_a_batch() {
        let mut pair = Pair::new(10);
        assert!(pair.push(1) && pair.push(2));
        assert_eq!(pair.send(), "P1;P2;*3 $4 WAIT $1 2 $3 750 ");
        // The next batch waits for it.
        assert!(pair.push(3));
        assert_eq!(pair.send(), "");
        assert_eq!(pair.says(b":11\r\n:12\r\n"), []);
        assert_eq!(pair.says(b":2\r\n"), [answered(1, 11), answered(2, 12)]);
        assert!(pair.send().starts_with("P3;*3 $4 WAIT"));
        assert_eq!(pair.says(b":13\r\n:3\r\n"), [answered(3, 13)]);
        assert!(pair.batches.is_empty());
    }

    #[test]
    fn too_few_replicas_are_no_answer() {
        for said in [&b":1\r\n"[..], b":0\r\n", b"-UNBLOCKED force unblock from blocking operation\r\n", b"+OK\r\n"] {
            let mut pair = Pair::new(10);
            assert!(pair.push(1) && pair.push(2));
            pair.send();
            // What the master has refused was not published, whatever the replicas say.
            let refused = PublicationOutcome::Answered(Token(2), Value::Error(b"OOM no".to_vec()));
            assert_eq!(pair.says(b":11\r\n-OOM no\r\n"), [refused]);
            assert_eq!(pair.says(said), [PublicationOutcome::Failed(Token(1), Unanswered::Unknown)]);
        }
    }

    #[test]
    fn a_connection_that_ends_tells_the_truth() {
        let mut pair = Pair::new(10);
        assert!(pair.push(1) && pair.push(2));
        pair.send();
        assert!(pair.push(3));
        assert_eq!(pair.says(b":11\r\n"), []);
        pair.connection.end(End::Lost);
        pair.take();
        let fates: Vec<_> = pair
            .outcomes()
            .into_iter()
            .map(|outcome| match outcome {
                PublicationOutcome::Failed(Token(number), unanswered) => (number, unanswered),
                PublicationOutcome::Answered(..) => panic!("{outcome:?}"),
            })
            .collect();
        assert_eq!(fates, [(2, Unanswered::Unknown), (1, Unanswered::Unknown), (3, Unanswered::NotSent)]);
        assert!(pair.batches.is_empty());
    }

    #[test]
    fn who_waits_too_long_is_not_published() {
        let mut pair = Pair::new(10);
        assert!(pair.push(1));
        pair.send();
        assert!(pair.push(2));
        pair.now = 900;
        assert!(pair.push(3));
        assert_eq!(pair.batches.deadline(), Some(1000));
        pair.now = 1000;
        pair.batches.drop_late(1000);
        assert_eq!(pair.outcomes(), [PublicationOutcome::Failed(Token(2), Unanswered::NotSent)]);
        assert_eq!(pair.says(b":11\r\n:2\r\n"), [answered(1, 11)]);
        // It waits no longer than its own publisher does.
        assert!(pair.send().contains("P3;*3 $4 WAIT $1 2 $3 675"));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut pair = Pair::new(2);
        assert!(pair.push(1) && pair.push(2));
        assert!(!pair.push(3));
        assert!(pair.send().contains("WAIT"));
        assert!(!pair.push(3));
        assert_eq!(pair.batches.octets(), 0);
    }
}
