// SPDX-License-Identifier: Apache-2.0

//! A backend of the tests' own, which is in no release: the zone, with answers that come late, in any order, or never, and with errors.
//!
//! It is compiled with the feature `test-backend`, and takes the place of the zone alone where the environment of nginx says so:
//!
//! ```text
//! WS_TEST_BACKEND=late                             everything is answered some milliseconds later
//! WS_TEST_BACKEND=shuffled,seed=7                  the same, and not in the order in which it was asked
//! WS_TEST_BACKEND=late,publish=never,timeout=2000  publications are not answered: after two seconds nobody knows
//! ```
//!
//! What is done is done in the order in which it was asked, as every backend does: at once, or as late as just before the answer.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::OnceLock;

use super::ZoneAlone;
use crate::channel::backend::{Answer, Backend, Demand, Failure, Listing, Outcome, Promise, PublishReply, later};
use crate::channel::memory::Corrupt;
use crate::channel::message::Publication;
use crate::channel::store::{
    GroupChange, GroupInfo, GroupKey, GroupLimits, Info, Key, Page, Policy, Presence, PublishError, ReadError,
    SubscribeError,
};
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::timer::{Timer, now};

/// The longest time that an answer takes, in milliseconds.
const LATEST: u64 = 20;

/// How answers come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Now.
    Prompt,
    /// In the order of the questions.
    Late,
    /// Answers come late, and in any order.
    Shuffled,
    /// Not before the timeout, whether it was done or not.
    Never,
    /// Late; nothing was done.
    Unavailable,
    /// Late; nothing was done.
    Refused,
    /// Late, whether it was done or not.
    Unknown,
    /// Late, with or without any of the errors.
    Errors,
}

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Publish,
    Open,
    Info,
    Delete,
    Presence,
    Group,
}

const OPERATIONS: [(&str, Operation); 6] = [
    ("publish", Operation::Publish),
    ("open", Operation::Open),
    ("info", Operation::Info),
    ("delete", Operation::Delete),
    ("presence", Operation::Presence),
    ("group", Operation::Group),
];

const MODES: [(&str, Mode); 8] = [
    ("prompt", Mode::Prompt),
    ("late", Mode::Late),
    ("shuffled", Mode::Shuffled),
    ("never", Mode::Never),
    ("unavailable", Mode::Unavailable),
    ("refused", Mode::Refused),
    ("unknown", Mode::Unknown),
    ("errors", Mode::Errors),
];

/// What the environment says.
#[derive(Debug, Clone, Copy)]
struct Plan {
    modes: [Mode; OPERATIONS.len()],
    seed: u64,
    /// After how long an answer is given up, in milliseconds.
    timeout: u64,
}

static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

/// Reads the environment, which workers do not have. False if it says what makes no sense.
pub fn read_environment() -> bool {
    let Some(text) = std::env::var_os("WS_TEST_BACKEND").filter(|text| !text.is_empty()) else {
        PLAN.get_or_init(|| None);
        return true;
    };
    let plan = text.to_str().and_then(Plan::of);
    PLAN.get_or_init(|| plan);
    plan.is_some()
}

/// The backend that takes the place of the zone alone, if there is to be one.
pub fn backend() -> Option<Rc<dyn Backend>> {
    let plan = (*PLAN.get()?)?;
    RANDOM.set(plan.seed);
    Some(Rc::new(Erratic(plan)))
}

impl Plan {
    fn of(text: &str) -> Option<Self> {
        let find = |name: &str| MODES.iter().find(|(known, _)| *known == name).map(|(_, mode)| *mode);
        let mut words = text.split(',');
        let mut plan = Plan { modes: [find(words.next()?)?; OPERATIONS.len()], seed: 1, timeout: 3000 };
        for word in words {
            match word.split_once('=')? {
                ("seed", number) => plan.seed = number.parse().ok()?,
                ("timeout", number) => plan.timeout = number.parse().ok()?,
                (name, mode) => plan.modes[OPERATIONS.iter().position(|(known, _)| *known == name)?] = find(mode)?,
            }
        }
        Some(plan)
    }
}

/// Something that is done once.
type Step = Box<dyn FnOnce()>;

/// Something that was asked for and is not answered.
struct Question {
    due: u64,
    /// Does it, if that was not done yet.
    step: Option<Step>,
    answer: Step,
}

/// What was asked for and is not answered, the oldest first.
struct Questions {
    waiting: Vec<Question>,
    timer: Timer,
    /// A worker that is told to go does not go before everything is answered that somebody may wait for.
    keep: Timer,
}

thread_local! {
    static QUESTIONS: RefCell<Option<Questions>> = const { RefCell::new(None) };
    static RANDOM: Cell<u64> = const { Cell::new(1) };
}

/// A number below `bound`, by the seed (xorshift).
fn random(bound: u64) -> u64 {
    let mut state = RANDOM.get().max(1);
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    RANDOM.set(state);
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
}

fn with<R>(step: impl FnOnce(&mut Questions) -> R) -> R {
    QUESTIONS.with_borrow_mut(|questions| {
        step(questions.get_or_insert_with(|| Questions {
            waiting: Vec::new(),
            timer: Timer::of_worker(on_timer).cancelable(),
            keep: Timer::of_worker(on_timer),
        }))
    })
}

/// The worker has been told to go.
pub fn leaving() {
    QUESTIONS.with_borrow_mut(|questions| {
        if let Some(questions) = questions {
            questions.arm();
        }
    });
}

/// The worker goes now: what was asked for is done, and nobody knows.
pub fn end() {
    let Some(questions) = QUESTIONS.take() else { return };
    for question in questions.waiting {
        if let Some(step) = question.step {
            step();
        }
    }
}

/// Answers what is due.
unsafe extern "C" fn on_timer(_: *mut ffi::ngx_event_t) {
    guard((), || {
        with(|questions| {
            questions.timer.take_expired();
            questions.keep.take_expired();
        });
        while let Some((steps, answer)) = with(Questions::next_due) {
            steps.into_iter().for_each(|step| step());
            answer();
        }
        with(Questions::arm);
    });
}

impl Questions {
    /// The answer that has been due for the longest time, and what is to be done before it.
    fn next_due(&mut self) -> Option<(Vec<Step>, Step)> {
        let place = (0..self.waiting.len()).min_by_key(|&place| (self.waiting[place].due, place))?;
        if self.waiting[place].due > now() {
            return None;
        }
        let steps = self.waiting[..=place].iter_mut().filter_map(|question| question.step.take()).collect();
        Some((steps, self.waiting.remove(place).answer))
    }

    fn arm(&mut self) {
        // nginx would leave a timer alone that is to fire a little earlier than it was.
        self.timer.disarm();
        self.keep.disarm();
        let now = now();
        let times = || self.waiting.iter().map(|question| question.due.saturating_sub(now).max(1));
        if let (Some(first), Some(last)) = (times().min(), times().max()) {
            self.timer.arm(first);
            let time = super::keeps_worker(last);
            // The second time that it is over, nobody waits any more.
            if time > 1 {
                self.keep.arm(time);
            }
        }
    }
}

/// What the zone has said, and who is to be told, when both are there: the zone itself may need more turns than the answer is late.
struct Asked<T, E>(Rc<RefCell<Halves<T, E>>>);

type Halves<T, E> = (Option<Outcome<T, E>>, Option<Promise<T, E>>);

impl<T, E> Asked<T, E> {
    fn meet(&self, one: impl FnOnce(&mut Halves<T, E>)) {
        let mut halves = self.0.borrow_mut();
        one(&mut halves);
        match (halves.0.take(), halves.1.take()) {
            (Some(outcome), Some(promise)) => {
                drop(halves);
                promise.answer(outcome);
            }
            one => *halves = one,
        }
    }
}

impl<T, E> Clone for Asked<T, E> {
    fn clone(&self) -> Self {
        Asked(Rc::clone(&self.0))
    }
}

impl<T, E> Default for Asked<T, E> {
    fn default() -> Self {
        Asked(Rc::new(RefCell::new((None, None))))
    }
}

/// The backend.
struct Erratic(Plan);

impl Erratic {
    /// Lets `step` be done, and answered as the mode of the operation says.
    fn ask<T: 'static, E: 'static>(
        &self,
        operation: Operation,
        step: impl FnOnce() -> Answer<T, E> + 'static,
    ) -> Answer<T, E> {
        let place = OPERATIONS.iter().position(|(_, known)| *known == operation).unwrap_or(0);
        let mut mode = self.0.modes[place];
        if mode == Mode::Prompt {
            return step();
        }
        if mode == Mode::Errors {
            mode = [Mode::Shuffled, Mode::Never, Mode::Unavailable, Mode::Refused, Mode::Unknown][random(5) as usize];
        }
        let is_done = match mode {
            Mode::Unavailable | Mode::Refused => false,
            Mode::Never | Mode::Unknown => random(2) == 0,
            _ => true,
        };
        let asked = Asked::default();
        let of_step = asked.clone();
        let step = move || step().then(move |outcome| of_step.meet(|halves| halves.0 = Some(outcome)));
        let (promise, pending) = later();
        let answer = move || {
            let failure = match mode {
                Mode::Unavailable => Failure::Unavailable,
                Mode::Refused => Failure::Refused,
                Mode::Never | Mode::Unknown => Failure::Unknown,
                _ => return asked.meet(|halves| halves.1 = Some(promise)),
            };
            promise.answer(Err(failure));
        };
        let delay = if mode == Mode::Never { self.0.timeout } else { 1 + random(LATEST) };
        with(|questions| {
            let last = questions.waiting.last().map_or(0, |question| question.due);
            // Questions that are never answered do not hold up the others.
            let due = match mode {
                Mode::Late => (now() + delay).max(last.min(now() + LATEST)),
                _ => now() + delay,
            };
            questions.waiting.push(Question {
                due,
                step: if is_done { Some(Box::new(step)) } else { None },
                answer: Box::new(answer),
            });
            questions.arm();
        });
        if random(3) == 0 {
            let steps: Vec<Step> =
                with(|questions| questions.waiting.iter_mut().filter_map(|question| question.step.take()).collect());
            steps.into_iter().for_each(|step| step());
        }
        Answer::Later(pending)
    }
}

/// A key that lives on.
struct OwnedKey {
    space: u64,
    group: Box<[u8]>,
    id: Box<[u8]>,
}

impl OwnedKey {
    fn of(key: Key<'_>) -> Self {
        OwnedKey { space: key.space(), group: key.group().into(), id: key.id().into() }
    }

    /// Asks the zone about it.
    fn ask<T, E>(&self, ask: impl FnOnce(Key<'_>) -> Answer<T, E>) -> Answer<T, E> {
        match Key::in_space(self.space, &self.group, &self.id) {
            Some(key) => ask(key),
            None => Answer::Now(Err(Failure::Refused)),
        }
    }
}

impl Backend for Erratic {
    fn space(&self) -> u64 {
        ZoneAlone.space()
    }

    fn publish(
        &self,
        key: Key<'_>,
        publication: &Publication<'_>,
        policy: Policy,
    ) -> Answer<PublishReply, PublishError> {
        let Publication { kind, content_type, event, data } = *publication;
        let (key, content_type, event, data) =
            (OwnedKey::of(key), content_type.to_vec(), event.to_vec(), data.concat());
        self.ask(Operation::Publish, move || {
            let publication = Publication { kind, content_type: &content_type, event: &event, data: &[&data] };
            key.ask(|key| ZoneAlone.publish(key, &publication, policy))
        })
    }

    fn needs_opening(&self) -> bool {
        true
    }

    fn open(&self, _: &[Key<'_>], _: &Demand) -> Answer<(), SubscribeError> {
        self.ask(Operation::Open, || Answer::Now(Ok(())))
    }

    fn limits_in_zone(&self, location: GroupLimits) -> GroupLimits {
        location
    }

    fn info(&self, key: Key<'_>) -> Answer<Option<Info>, Corrupt> {
        let key = OwnedKey::of(key);
        self.ask(Operation::Info, move || key.ask(|key| ZoneAlone.info(key)))
    }

    fn delete(&self, key: Key<'_>) -> Answer<Option<Info>, Corrupt> {
        let key = OwnedKey::of(key);
        self.ask(Operation::Delete, move || key.ask(|key| ZoneAlone.delete(key)))
    }

    fn presence(&self, key: Key<'_>) -> Answer<Option<Presence>, ReadError> {
        let key = OwnedKey::of(key);
        self.ask(Operation::Presence, move || key.ask(|key| ZoneAlone.presence(key)))
    }

    fn expel(&self, key: Key<'_>, who: &[u8]) -> Answer<Option<u32>, ReadError> {
        let (key, who) = (OwnedKey::of(key), who.to_vec());
        self.ask(Operation::Delete, move || key.ask(|key| ZoneAlone.expel(key, &who)))
    }

    fn list(
        &self,
        GroupKey { space, name }: GroupKey<'_>,
        prefix: &[u8],
        page: Page,
        most: usize,
    ) -> Answer<Listing, Corrupt> {
        let (name, prefix) = (name.to_vec(), prefix.to_vec());
        self.ask(Operation::Group, move || ZoneAlone.list(GroupKey { space, name: &name }, &prefix, page, most))
    }

    fn group(&self, GroupKey { space, name }: GroupKey<'_>, location: GroupLimits) -> Answer<GroupInfo, Corrupt> {
        let name = name.to_vec();
        self.ask(Operation::Group, move || ZoneAlone.group(GroupKey { space, name: &name }, location))
    }

    fn limit_group(&self, GroupKey { space, name }: GroupKey<'_>, change: GroupChange) -> Answer<(), SubscribeError> {
        let name = name.to_vec();
        self.ask(Operation::Group, move || ZoneAlone.limit_group(GroupKey { space, name: &name }, change))
    }

    fn delete_group(&self, GroupKey { space, name }: GroupKey<'_>) -> Answer<(), Corrupt> {
        let name = name.to_vec();
        self.ask(Operation::Group, move || ZoneAlone.delete_group(GroupKey { space, name: &name }))
    }
}
