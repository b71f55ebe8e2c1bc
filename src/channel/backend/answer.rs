// SPDX-License-Identifier: Apache-2.0

//! Answers that are there, or that come later.

use std::cell::RefCell;
use std::fmt::{self, Display, Formatter};
use std::rc::Rc;

/// Why a backend has not done what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure<E> {
    /// The operation was not done: the backend is not there, or cannot do it now.
    Unavailable,
    /// The operation may have been done: the answer has not come.
    Unknown,
    /// The operation was not done, and never will be: the backend refuses.
    Refused,
    /// The operation cannot be done by this backend.
    Unsupported,
    /// The operation was not done, for a reason of its own.
    Own(E),
}

impl<E: Display> Display for Failure<E> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable => f.write_str("the engine of the channel is not available"),
            Self::Unknown => f.write_str("the engine of the channel has not answered; it may have been done"),
            Self::Refused => f.write_str("the engine of the channel refuses"),
            Self::Unsupported => f.write_str("the engine of the channel cannot do this"),
            Self::Own(error) => error.fmt(f),
        }
    }
}

/// What became of an operation.
pub type Outcome<T, E> = Result<T, Failure<E>>;

/// An answer. It is lost, and nothing else, if nobody takes it.
pub enum Answer<T, E> {
    /// The answer is there.
    Now(Outcome<T, E>),
    /// The answer comes in a later turn of the event loop, never before this is returned: see [`Pending::into_answer`].
    Later(Pending<T, E>),
}

impl<T: 'static, E: 'static> Answer<T, E> {
    /// What is made of the outcome, now or later, in place of it.
    pub fn map<U: 'static, F: 'static>(
        self,
        change: impl FnOnce(Outcome<T, E>) -> Outcome<U, F> + 'static,
    ) -> Answer<U, F> {
        match self {
            Self::Now(outcome) => Answer::Now(change(outcome)),
            Self::Later(pending) => Answer::Later(pending.map(change)),
        }
    }

    /// Calls `take` with the outcome, now or later.
    pub fn then(self, take: impl FnOnce(Outcome<T, E>) + 'static) {
        match self {
            Self::Now(outcome) => take(outcome),
            Self::Later(pending) => pending.then(take),
        }
    }
}

/// Who takes an answer.
type Taker<T, E> = Box<dyn FnOnce(Outcome<T, E>)>;

/// How far an answer is.
enum State<T, E> {
    /// Nobody waits for it, and it is not there.
    Open,
    /// The answer is awaited.
    Awaited(Taker<T, E>),
    /// The answer is there.
    Answered(Outcome<T, E>),
    /// The answer was taken, or nobody will take it.
    Over,
}

type Shared<T, E> = Rc<RefCell<State<T, E>>>;

/// The side of an answer that waits for it.
pub struct Pending<T, E>(Shared<T, E>);

/// The side of an answer that gives it.
///
/// Invariant: each is answered once, at the latest when it is dropped, so that nobody waits for ever.
pub struct Promise<T, E>(Shared<T, E>);

/// An answer that comes later: who gives it, and who waits for it.
pub fn later<T, E>() -> (Promise<T, E>, Pending<T, E>) {
    let shared = Rc::new(RefCell::new(State::Open));
    (Promise(Rc::clone(&shared)), Pending(shared))
}

impl<T: 'static, E: 'static> Pending<T, E> {
    /// The answer as a backend returns it: that it comes later only if it is not there already. Whoever asks in an event of a request
    /// prepares for an answer that comes later, and must not be called before that.
    pub fn into_answer(self) -> Answer<T, E> {
        let state = self.0.replace(State::Over);
        match state {
            State::Answered(outcome) => Answer::Now(outcome),
            other => {
                self.0.replace(other);
                Answer::Later(self)
            }
        }
    }

    /// Calls `take` with the answer, when it comes.
    pub fn then(self, take: impl FnOnce(Outcome<T, E>) + 'static) {
        let state = self.0.replace(State::Over);
        match state {
            State::Answered(outcome) => {
                debug_assert!(false, "an answer that is there already is none that comes later");
                take(outcome);
            }
            State::Open => {
                self.0.replace(State::Awaited(Box::new(take)));
            }
            State::Awaited(_) | State::Over => debug_assert!(false, "an answer is awaited once"),
        }
    }

    /// What is made of the answer when it comes, in place of it.
    pub fn map<U: 'static, F: 'static>(
        self,
        change: impl FnOnce(Outcome<T, E>) -> Outcome<U, F> + 'static,
    ) -> Pending<U, F> {
        let (promise, pending) = later();
        self.then(move |outcome| promise.answer(change(outcome)));
        pending
    }
}

impl<T, E> Promise<T, E> {
    /// Gives the answer. Whoever waits is called before this returns, so it is called at the outermost level.
    pub fn answer(self, outcome: Outcome<T, E>) {
        settle(&self.0, outcome);
    }
}

impl<T, E> Drop for Promise<T, E> {
    fn drop(&mut self) {
        settle(&self.0, Err(Failure::Unknown));
    }
}

/// Gives the answer, unless it was given.
fn settle<T, E>(shared: &Shared<T, E>, outcome: Outcome<T, E>) {
    let state = shared.replace(State::Over);
    match state {
        State::Open => {
            shared.replace(State::Answered(outcome));
        }
        State::Awaited(take) => take(outcome),
        State::Answered(first) => {
            shared.replace(State::Answered(first));
        }
        State::Over => {}
    }
}

/// Answers about several channels that have not all come.
struct Gathered<T, E> {
    /// In the order of the channels; `None` where the answer has not come.
    values: Vec<Option<T>>,
    /// The first of the failures by the order of the channels, and its place.
    failed: Option<(usize, Failure<E>)>,
    left: usize,
    merge: fn(T, T) -> T,
    promise: Option<Promise<Option<T>, E>>,
}

impl<T: 'static, E: 'static> Gathered<T, E> {
    fn add(&mut self, place: usize, outcome: Outcome<T, E>) {
        match outcome {
            Ok(value) => self.values[place] = Some(value),
            Err(failure) => self.fail(place, failure),
        }
    }

    /// Notes a failure. That something may have been done is told rather than that something else was not.
    fn fail(&mut self, place: usize, failure: Failure<E>) {
        let is_unknown = |failure: &Failure<E>| matches!(failure, Failure::Unknown);
        let counts_more = match &self.failed {
            None => true,
            Some((first, known)) => match (is_unknown(known), is_unknown(&failure)) {
                (true, false) => false,
                (false, true) => true,
                (true, true) | (false, false) => place < *first,
            },
        };
        if counts_more {
            self.failed = Some((place, failure));
        }
    }

    fn outcome(&mut self) -> Outcome<Option<T>, E> {
        match self.failed.take() {
            Some((_, failure)) => Err(failure),
            None => Ok(self.values.drain(..).flatten().reduce(self.merge)),
        }
    }
}

/// The answers about several channels as one: what `merge` makes of them in the order of the channels, `None` if there were none.
/// The next one is not asked for once one of them has failed at once.
pub fn gather<T: 'static, E: 'static>(
    answers: impl IntoIterator<Item = Answer<T, E>>,
    merge: fn(T, T) -> T,
) -> Answer<Option<T>, E> {
    let mut answers = answers.into_iter();
    let mut merged: Option<T> = None;
    while let Some(answer) = answers.next() {
        match answer {
            Answer::Now(Ok(value)) => {
                merged = Some(match merged {
                    None => value,
                    Some(before) => merge(before, value),
                });
            }
            Answer::Now(Err(failure)) => return Answer::Now(Err(failure)),
            Answer::Later(pending) => return Answer::Later(gather_later(merged, pending, answers, merge)),
        }
    }
    Answer::Now(Ok(merged))
}

/// Gathers answers of which this one is the first that comes later.
fn gather_later<T: 'static, E: 'static>(
    merged: Option<T>,
    first: Pending<T, E>,
    answers: impl Iterator<Item = Answer<T, E>>,
    merge: fn(T, T) -> T,
) -> Pending<Option<T>, E> {
    let (promise, pending) = later();
    // One more is left than is awaited, until all were asked for.
    let gathered = Gathered { values: vec![merged], failed: None, left: 1, merge, promise: Some(promise) };
    let gathered = Rc::new(RefCell::new(gathered));
    for answer in [Answer::Later(first)].into_iter().chain(answers) {
        let place = {
            let mut state = gathered.borrow_mut();
            state.values.push(None);
            state.left += 1;
            state.values.len() - 1
        };
        match answer {
            Answer::Now(outcome) => {
                let failed = outcome.is_err();
                gathered.borrow_mut().add(place, outcome);
                gathered.borrow_mut().left -= 1;
                if failed {
                    break;
                }
            }
            Answer::Later(pending) => {
                let gathered = Rc::clone(&gathered);
                pending.then(move |outcome| {
                    gathered.borrow_mut().add(place, outcome);
                    came(&gathered);
                });
            }
        }
    }
    came(&gathered);
    pending
}

/// One of the answers that were left has come.
fn came<T: 'static, E: 'static>(gathered: &RefCell<Gathered<T, E>>) {
    let (promise, outcome) = {
        let mut state = gathered.borrow_mut();
        state.left -= 1;
        if state.left > 0 {
            return;
        }
        (state.promise.take(), state.outcome())
    };
    if let Some(promise) = promise {
        promise.answer(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    type Test = Answer<u32, &'static str>;

    /// What comes of an answer, to be looked at later.
    fn watch<T: Copy + 'static>(answer: Answer<T, &'static str>) -> Rc<Cell<Option<Outcome<T, &'static str>>>> {
        let seen = Rc::new(Cell::new(None));
        let to = Rc::clone(&seen);
        answer.then(move |outcome| assert!(to.replace(Some(outcome)).is_none(), "it is answered once"));
        seen
    }

    #[test]
    fn an_answer_reaches_who_waits_whichever_is_first() {
        let (promise, pending) = later::<u32, &str>();
        let seen = watch(Answer::Later(pending));
        assert_eq!(seen.get(), None);
        promise.answer(Ok(1));
        assert_eq!(seen.get(), Some(Ok(1)));

        let (promise, pending) = later::<u32, &str>();
        promise.answer(Ok(2));
        let answer = pending.into_answer();
        assert!(matches!(answer, Answer::Now(Ok(2))), "it does not come later");
        assert_eq!(watch(answer).get(), Some(Ok(2)));

        let (promise, pending) = later::<u32, &str>();
        let seen = watch(pending.into_answer());
        assert_eq!(seen.get(), None);
        promise.answer(Ok(3));
        assert_eq!(seen.get(), Some(Ok(3)));
    }

    #[test]
    fn nobody_waits_for_ever() {
        let (promise, pending) = later::<u32, &str>();
        let seen = watch(Answer::Later(pending));
        drop(promise);
        assert_eq!(seen.get(), Some(Err(Failure::Unknown)));

        let (promise, pending) = later::<u32, &str>();
        drop(promise);
        assert_eq!(watch(pending.into_answer()).get(), Some(Err(Failure::Unknown)));

        // Nobody waits for ever for an answer that is made of several, either.
        let (promise, pending) = later::<u32, &str>();
        let seen = watch(gather([Answer::Later(pending), Test::Now(Ok(1))], |a, b| a + b));
        drop(promise);
        assert_eq!(seen.get(), Some(Err(Failure::Unknown)));
    }

    fn more(outcome: Outcome<u32, &'static str>) -> Outcome<u32, &'static str> {
        outcome.map(|value| value + 1)
    }

    #[test]
    fn a_value_is_changed_on_its_way() {
        assert_eq!(watch(Test::Now(Ok(1)).map(more)).get(), Some(Ok(2)));
        let (promise, pending) = later::<u32, &str>();
        let seen = watch(Test::Later(pending).map(more));
        promise.answer(Ok(2));
        assert_eq!(seen.get(), Some(Ok(3)));
        let (promise, pending) = later::<u32, &str>();
        let seen = watch(Test::Later(pending).map(more));
        promise.answer(Err(Failure::Own("no")));
        assert_eq!(seen.get(), Some(Err(Failure::Own("no"))));
    }

    #[test]
    fn several_that_are_there_are_merged_and_the_first_failure_ends_the_asking() {
        let merge = |first, other| first * 10 + other;
        assert_eq!(watch(gather(Vec::<Test>::new(), merge)).get(), Some(Ok(None)));
        assert_eq!(watch(gather([1, 2, 3].map(|value| Test::Now(Ok(value))), merge)).get(), Some(Ok(Some(123))));
        let asked = Cell::new(0);
        let answers = [Ok(1), Err(Failure::Own("no")), Ok(3)].into_iter().map(|outcome| {
            asked.set(asked.get() + 1);
            Test::Now(outcome)
        });
        assert_eq!(watch(gather(answers, merge)).get(), Some(Err(Failure::Own("no"))));
        assert_eq!(asked.get(), 2);
    }

    /// Every order in which three answers come, the second of which is there at once or not.
    #[test]
    fn several_are_merged_in_their_own_order_in_whichever_they_come() {
        const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        for order in ORDERS {
            for now in [None, Some(0), Some(1), Some(2)] {
                let mut promises = [const { None }; 3];
                let mut answers = Vec::new();
                for (place, kept) in promises.iter_mut().enumerate() {
                    if now == Some(place) {
                        answers.push(Test::Now(Ok(place as u32 + 1)));
                        continue;
                    }
                    let (promise, pending) = later();
                    *kept = Some(promise);
                    answers.push(Test::Later(pending));
                }
                let seen = watch(gather(answers, |first, other| first * 10 + other));
                for place in order {
                    assert_eq!(seen.get().is_some(), promises.iter().all(Option::is_none));
                    if let Some(promise) = promises[place].take() {
                        promise.answer(Ok(place as u32 + 1));
                    }
                }
                assert_eq!(seen.get(), Some(Ok(Some(123))), "{order:?} {now:?}");
            }
        }
    }

    #[test]
    fn what_nobody_knows_is_told_before_what_was_not_done() {
        for (outcomes, told) in [
            ([Ok(1), Err(Failure::Unavailable), Err(Failure::Own("no"))], Failure::Unavailable),
            ([Err(Failure::Own("no")), Ok(1), Err(Failure::Unavailable)], Failure::Own("no")),
            ([Err(Failure::Own("no")), Ok(1), Err(Failure::Unknown)], Failure::Unknown),
        ] {
            for backwards in [false, true] {
                let mut promises = Vec::new();
                let mut answers = Vec::new();
                for outcome in outcomes {
                    let (promise, pending) = later();
                    promises.push((promise, outcome));
                    answers.push(Test::Later(pending));
                }
                if backwards {
                    promises.reverse();
                }
                let seen = watch(gather(answers, |first, _| first));
                for (promise, outcome) in promises {
                    promise.answer(outcome);
                }
                assert_eq!(seen.get(), Some(Err(told)));
            }
        }
    }

    #[test]
    fn what_fails_at_once_after_another_is_awaited_ends_the_asking_and_waits_for_it() {
        let (promise, pending) = later();
        let asked = Cell::new(0);
        let mut answers = vec![Test::Later(pending), Test::Now(Err(Failure::Unavailable)), Test::Now(Ok(3))];
        answers.reverse();
        let answers = std::iter::from_fn(|| {
            asked.set(asked.get() + 1);
            answers.pop()
        });
        let seen = watch(gather(answers, |first, _| first));
        assert_eq!((asked.get(), seen.get()), (2, None));
        promise.answer(Ok(1));
        assert_eq!(seen.get(), Some(Err(Failure::Unavailable)));
    }
}
