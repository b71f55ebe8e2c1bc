// SPDX-License-Identifier: Apache-2.0

//! Where the commands of a worker go in a cluster, and where they go next when a node says that it does not have the slot.
//!
//! All goes well: a command leaves for the node that has its slot, pipelined with the others. A node that redirects a command,
//! or asks to try it again, puts its slot aside: commands of that slot then leave one after the other, in the order in which
//! they were asked for, until the slot has found its place. A redirected command was not executed, so it may be sent again; how
//! often and how long is bounded. Who owns the connections sends what is told, and passes the answers in.

use std::collections::{HashMap, VecDeque};

use super::slots::Slots;
use crate::redis::connection::{Token, Unanswered};
use crate::redis::error::ErrorReply;
use crate::redis::resp::Value;
use crate::redis::url::Node;

/// A command that is sent elsewhere again and again is given up after so many times.
pub const MOST_REDIRECTS: u32 = 8;

/// How long a slot rests that is being moved, in milliseconds.
const REST: u64 = 40;

/// A command that has not been answered for good.
#[derive(Debug)]
struct Command {
    slot: u16,
    octets: Vec<u8>,
    /// When the command is too late to be sent.
    deadline: u64,
    redirects: u32,
    /// The node that has its keys already, for the next time that it is sent.
    ask: Option<Node>,
}

/// A slot whose commands leave one after the other.
#[derive(Debug, Default)]
struct Aside {
    queue: VecDeque<Token>,
    /// No command is sent before this time.
    rests_until: u64,
}

/// What is to be done, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// The command leaves for a node.
    Send {
        /// Its name.
        token: Token,
        /// The node.
        node: Node,
        /// `ASKING` goes before it.
        asking: bool,
    },
    /// The command is answered.
    Answer(Token, Value),
    /// The command will not be answered.
    Fail(Token, Unanswered),
}

/// Commands of a worker to a cluster.
#[derive(Debug, Default)]
pub struct Dispatch {
    /// `None` until the slots are known.
    slots: Option<Slots>,
    commands: HashMap<Token, Command>,
    /// Commands of each slot that were sent and not answered.
    underway: HashMap<u16, u32>,
    aside: HashMap<u16, Aside>,
    actions: VecDeque<Action>,
    /// A node has said something else than what is known of the slots.
    doubt: bool,
    /// The slots are others than when that was last asked.
    changed: bool,
}

impl Dispatch {
    /// Slots are at these nodes, as the survey has found.
    pub fn found(&mut self, slots: Slots, now: u64) {
        self.changed |= self.slots.as_ref() != Some(&slots);
        self.slots = Some(slots);
        let aside: Vec<u16> = self.aside.keys().copied().collect();
        for slot in aside {
            self.go_on(slot, now);
        }
    }

    /// What is known of the slots.
    pub fn slots(&self) -> Option<&Slots> {
        self.slots.as_ref()
    }

    /// A node has said that another one has a slot.
    pub fn moved(&mut self, slot: u16, node: Node) {
        self.doubt = true;
        if let Some(slots) = &mut self.slots {
            self.changed |= slots.owner(slot) != Some(&node);
            slots.moved(slot, node);
        }
    }

    /// Whether slots are at other nodes than when that was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Whether something is not where it should be; asked for once.
    pub fn take_doubt(&mut self) -> bool {
        std::mem::take(&mut self.doubt)
    }

    /// What is to be done next.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The octets of a command that is to be sent.
    pub fn octets(&self, token: Token) -> &[u8] {
        self.commands.get(&token).map(|command| &*command.octets).unwrap_or_default()
    }

    /// When the command is to be answered.
    pub fn deadline_of(&self, token: Token) -> u64 {
        self.commands.get(&token).map_or(0, |command| command.deadline)
    }

    /// Commands that were not answered.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// A command for a slot.
    pub fn submit(&mut self, token: Token, slot: u16, octets: Vec<u8>, deadline: u64, now: u64) {
        self.commands.insert(token, Command { slot, octets, deadline, redirects: 0, ask: None });
        if !self.aside.contains_key(&slot) {
            match &self.slots {
                Some(slots) => match slots.owner(slot) {
                    Some(node) => {
                        let node = node.clone();
                        return self.send(token, slot, node, false);
                    }
                    None => {
                        // Nobody has it: the cluster is down, as far as it is concerned.
                        self.doubt = true;
                        return self.fail(token, Unanswered::NotSent);
                    }
                },
                None => {
                    self.aside.insert(slot, Aside::default());
                }
            }
        }
        if let Some(aside) = self.aside.get_mut(&slot) {
            aside.queue.push_back(token);
        }
        self.go_on(slot, now);
    }

    /// A command was answered.
    pub fn answered(&mut self, token: Token, reply: Value, from: &Node, now: u64) {
        let Some(command) = self.commands.get_mut(&token) else { return };
        let slot = command.slot;
        self.leaves(slot);
        let Some(command) = self.commands.get_mut(&token) else { return };
        let asked = command.ask.take().is_some();
        match ErrorReply::of(&reply) {
            Some(ErrorReply::Moved(redirect)) if command.redirects < MOST_REDIRECTS => {
                command.redirects += 1;
                // The first time the node knows better; nodes that send it to and fro have yet to agree.
                let rests_until = if command.redirects > 1 { now + REST } else { now };
                self.moved(slot, redirect.node(&from.host));
                self.put_aside(token, slot, rests_until);
            }
            Some(ErrorReply::Ask(redirect)) if command.redirects < MOST_REDIRECTS => {
                command.redirects += 1;
                command.ask = Some(redirect.node(&from.host));
                self.put_aside(token, slot, now);
            }
            Some(ErrorReply::TryAgain) if now + REST < command.deadline => {
                // Some keys of the channel are here and some are there; asked where, it is asked anew.
                self.put_aside(token, slot, now + REST);
            }
            error => {
                self.doubt |= matches!(error, Some(ErrorReply::NotMaster | ErrorReply::NotNow(_)));
                self.commands.remove(&token);
                self.actions.push_back(Action::Answer(token, reply));
                let is_settled = error.is_none() && !asked;
                self.settle(slot, is_settled, now);
                return;
            }
        }
        self.go_on(slot, now);
    }

    /// A command that was sent will not be answered.
    pub fn abandoned(&mut self, token: Token, unanswered: Unanswered, now: u64) {
        let Some(command) = self.commands.get(&token) else { return };
        let slot = command.slot;
        self.leaves(slot);
        self.doubt = true;
        self.fail(token, unanswered);
        self.settle(slot, false, now);
    }

    /// All that waits for its slots to be known is not sent any more.
    pub fn give_up(&mut self) {
        if self.slots.is_some() {
            return;
        }
        for (_, aside) in std::mem::take(&mut self.aside) {
            for token in aside.queue {
                self.fail(token, Unanswered::NotSent);
            }
        }
    }

    /// When [`on_time`](Self::on_time) is to be called.
    pub fn deadline(&self) -> Option<u64> {
        let waiting = self.aside.iter().filter_map(|(slot, aside)| {
            let first = aside.queue.front()?;
            let late = self.commands.get(first)?.deadline;
            let is_idle = !self.underway.contains_key(slot) && self.slots.is_some();
            Some(if is_idle { aside.rests_until.min(late) } else { late })
        });
        waiting.min()
    }

    /// Time has passed.
    pub fn on_time(&mut self, now: u64) {
        let aside: Vec<u16> = self.aside.keys().copied().collect();
        for slot in aside {
            while let Some(aside) = self.aside.get_mut(&slot)
                && let Some(&first) = aside.queue.front()
                && self.commands.get(&first).is_none_or(|command| command.deadline <= now)
            {
                aside.queue.pop_front();
                self.fail(first, Unanswered::NotSent);
            }
            self.go_on(slot, now);
        }
    }

    fn fail(&mut self, token: Token, unanswered: Unanswered) {
        self.commands.remove(&token);
        self.actions.push_back(Action::Fail(token, unanswered));
    }

    fn send(&mut self, token: Token, slot: u16, node: Node, asking: bool) {
        *self.underway.entry(slot).or_default() += 1;
        self.actions.push_back(Action::Send { token, node, asking });
    }

    /// One command less of a slot is on its way.
    fn leaves(&mut self, slot: u16) {
        if let Some(count) = self.underway.get_mut(&slot) {
            *count -= 1;
            if *count == 0 {
                self.underway.remove(&slot);
            }
        }
    }

    /// Answers come in the order of the commands, so that the order stays; who was put aside and sent before stays before.
    fn put_aside(&mut self, token: Token, slot: u16, rests_until: u64) {
        let aside = self.aside.entry(slot).or_default();
        aside.rests_until = aside.rests_until.max(rests_until);
        // Invariant: tokens count up, so that the smaller one was asked for first.
        let at = aside.queue.iter().position(|queued| queued.0 > token.0).unwrap_or(aside.queue.len());
        aside.queue.insert(at, token);
    }

    /// A command of a slot was answered for good.
    fn settle(&mut self, slot: u16, is_settled: bool, now: u64) {
        if let Some(aside) = self.aside.get_mut(&slot)
            && is_settled
            && !self.underway.contains_key(&slot)
        {
            // The node has the slot, all of it: what waits leaves at once.
            let queue = std::mem::take(&mut aside.queue);
            self.aside.remove(&slot);
            let owner = self.slots.as_ref().and_then(|slots| slots.owner(slot)).cloned();
            for token in queue {
                match &owner {
                    Some(node) => self.send(token, slot, node.clone(), false),
                    None => self.fail(token, Unanswered::NotSent),
                }
            }
            return;
        }
        self.go_on(slot, now);
    }

    /// Sends the next command of a slot that was put aside.
    fn go_on(&mut self, slot: u16, now: u64) {
        let Some(aside) = self.aside.get_mut(&slot) else { return };
        if self.underway.contains_key(&slot) {
            return;
        }
        if aside.queue.is_empty() {
            self.aside.remove(&slot);
            return;
        }
        let Some(slots) = &self.slots else { return };
        if aside.rests_until > now {
            return;
        }
        while let Some(token) = aside.queue.pop_front() {
            let Some(command) = self.commands.get(&token) else { continue };
            let (node, asking) = match (&command.ask, slots.owner(slot)) {
                (Some(node), _) => (node.clone(), true),
                (None, Some(node)) => (node.clone(), false),
                (None, None) => {
                    self.doubt = true;
                    self.commands.remove(&token);
                    self.actions.push_back(Action::Fail(token, Unanswered::NotSent));
                    continue;
                }
            };
            return self.send(token, slot, node, asking);
        }
        self.aside.remove(&slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u16 = 7001;
    const B: u16 = 7002;

    fn at(port: u16) -> Node {
        Node { host: "h".to_owned(), port }
    }

    /// All slots are at a port, but for those from 100 on, which nobody has.
    fn slots(port: u16) -> Slots {
        let node = Value::Array(vec![Value::Bulk(b"h".to_vec()), Value::Integer(port.into())]);
        let range = Value::Array(vec![Value::Integer(0), Value::Integer(99), node]);
        Slots::of(&Value::Array(vec![range]), &at(1)).unwrap()
    }

    fn known() -> Dispatch {
        let mut dispatch = Dispatch::default();
        dispatch.found(slots(A), 0);
        dispatch
    }

    fn submit(dispatch: &mut Dispatch, token: u64, slot: u16, now: u64) {
        dispatch.submit(Token(token), slot, format!("{token}").into_bytes(), now + 1000, now);
    }

    fn error(text: &str) -> Value {
        Value::Error(text.as_bytes().to_vec())
    }

    /// What is done, in short: `token>port`, with a `?` for ASKING, `token=` for an answer, `token!` where nothing was sent.
    fn done(dispatch: &mut Dispatch) -> String {
        let actions = std::iter::from_fn(|| dispatch.next_action());
        let words: Vec<String> = actions
            .map(|action| match action {
                Action::Send { token, node, asking } => {
                    format!("{}>{}{}", token.0, node.port, if asking { "?" } else { "" })
                }
                Action::Answer(token, _) => format!("{}=", token.0),
                Action::Fail(token, Unanswered::NotSent) => format!("{}!", token.0),
                Action::Fail(token, Unanswered::Unknown) => format!("{}?!", token.0),
            })
            .collect();
        words.join(" ")
    }

    #[test]
    fn commands_leave_for_the_node_that_has_the_slot() {
        let mut dispatch = known();
        for (token, slot) in [(1, 5), (2, 5), (3, 6), (4, 100)] {
            submit(&mut dispatch, token, slot, 0);
        }
        assert_eq!(done(&mut dispatch), "1>7001 2>7001 3>7001 4!");
        assert!(dispatch.take_doubt(), "nobody has a slot");
        dispatch.answered(Token(1), Value::Integer(1), &at(A), 1);
        dispatch.abandoned(Token(2), Unanswered::Unknown, 1);
        dispatch.answered(Token(3), error("OOM no"), &at(A), 1);
        assert_eq!(done(&mut dispatch), "1= 2?! 3=");
        assert!(dispatch.is_empty() && dispatch.deadline().is_none());
    }

    #[test]
    fn commands_wait_until_the_slots_are_known() {
        let mut dispatch = Dispatch::default();
        submit(&mut dispatch, 1, 5, 0);
        submit(&mut dispatch, 2, 5, 10);
        submit(&mut dispatch, 3, 6, 10);
        assert_eq!(done(&mut dispatch), "");
        assert_eq!(dispatch.deadline(), Some(1000));
        dispatch.on_time(1000);
        assert_eq!(done(&mut dispatch), "1!");
        dispatch.found(slots(A), 1001);
        let mut sent: Vec<String> = done(&mut dispatch).split(' ').map(str::to_owned).collect();
        sent.sort();
        assert_eq!(sent, ["2>7001", "3>7001"]);
        let mut dispatch = Dispatch::default();
        submit(&mut dispatch, 1, 5, 0);
        dispatch.give_up();
        assert_eq!(done(&mut dispatch), "1!");
    }

    #[test]
    fn a_slot_that_has_moved_is_followed_in_order() {
        let mut dispatch = known();
        for token in 1..=3 {
            submit(&mut dispatch, token, 5, 0);
        }
        done(&mut dispatch);
        dispatch.answered(Token(1), error("MOVED 5 h:7002"), &at(A), 1);
        // Another one that was sent to the old node is still to be answered: nothing of the slot leaves before.
        submit(&mut dispatch, 4, 5, 1);
        assert_eq!(done(&mut dispatch), "");
        dispatch.answered(Token(2), error("MOVED 5 h:7002"), &at(A), 1);
        dispatch.answered(Token(3), error("MOVED 5 :7002"), &at(A), 1);
        assert_eq!(done(&mut dispatch), "1>7002");
        assert!(dispatch.take_doubt() && dispatch.take_changed() && !dispatch.take_changed());
        submit(&mut dispatch, 5, 6, 1);
        assert_eq!(done(&mut dispatch), "5>7001", "other slots go on");
        dispatch.answered(Token(1), Value::Integer(1), &at(B), 2);
        assert_eq!(done(&mut dispatch), "1= 2>7002 3>7002 4>7002", "all at once");
        submit(&mut dispatch, 6, 5, 2);
        assert_eq!(done(&mut dispatch), "6>7002");
    }

    #[test]
    fn a_slot_that_is_being_moved() {
        let mut dispatch = known();
        submit(&mut dispatch, 1, 5, 0);
        submit(&mut dispatch, 2, 5, 0);
        done(&mut dispatch);
        dispatch.answered(Token(1), error("ASK 5 h:7002"), &at(A), 1);
        dispatch.answered(Token(2), error("TRYAGAIN Multiple keys request during rehashing of slot"), &at(A), 1);
        assert_eq!(done(&mut dispatch), "");
        assert_eq!(dispatch.deadline(), Some(1 + REST));
        dispatch.on_time(1 + REST);
        assert_eq!(done(&mut dispatch), "1>7002?");
        dispatch.answered(Token(1), error("TRYAGAIN"), &at(B), 50);
        dispatch.on_time(50 + REST);
        assert_eq!(done(&mut dispatch), "1>7001", "who has the slot is asked anew");
        dispatch.answered(Token(1), error("ASK 5 h:7002"), &at(A), 100);
        assert_eq!(done(&mut dispatch), "1>7002?");
        dispatch.answered(Token(1), Value::Integer(1), &at(B), 110);
        // Another channel of the slot may still be at the first node.
        assert_eq!(done(&mut dispatch), "1= 2>7001");
        dispatch.answered(Token(2), Value::Integer(1), &at(A), 120);
        assert_eq!(done(&mut dispatch), "2=");
    }

    #[test]
    fn what_is_tried_again_is_bounded() {
        let mut dispatch = known();
        submit(&mut dispatch, 1, 5, 0);
        let (mut now, mut port) = (0, A);
        let mut sent = 0;
        loop {
            now += REST;
            dispatch.on_time(now);
            match dispatch.next_action() {
                Some(Action::Send { .. }) => {
                    sent += 1;
                    port = A + B - port;
                    dispatch.answered(Token(1), error(&format!("MOVED 5 h:{port}")), &at(A), now);
                }
                Some(Action::Answer(_, reply)) => {
                    assert!(matches!(ErrorReply::of(&reply), Some(ErrorReply::Moved(_))));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(sent, MOST_REDIRECTS + 1);
        // TRYAGAIN ends with the time of the command.
        submit(&mut dispatch, 2, 6, 0);
        assert!(matches!(dispatch.next_action(), Some(Action::Send { .. })));
        dispatch.answered(Token(2), error("TRYAGAIN"), &at(A), 1000 - REST);
        assert_eq!(done(&mut dispatch), "2=");
    }

    #[test]
    fn a_cluster_that_is_down_says_so() {
        let mut dispatch = known();
        submit(&mut dispatch, 1, 5, 0);
        done(&mut dispatch);
        dispatch.answered(Token(1), error("CLUSTERDOWN The cluster is down"), &at(A), 1);
        assert_eq!(done(&mut dispatch), "1=");
        assert!(dispatch.take_doubt() && !dispatch.take_doubt());
    }
}
