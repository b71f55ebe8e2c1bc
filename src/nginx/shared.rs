//! One program for all clients of a channel.
//!
//! The clients of a channel in one worker have a [`Local`] between them. It knows how the program is started, and runs it
//! if this worker has claimed it in the zone; otherwise it follows what the zone says. Whatever happens, in this worker or
//! in another, comes down to [`examine`]: it looks at the zone and does what is to be done.
//!
//! The table is borrowed for short steps only and never while a client is woken: that may come back here.

mod member;
mod process;
mod recipe;
mod run;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::ptr::NonNull;
use std::rc::Rc;

pub use member::start;
use process::{Process, Progress};
use recipe::Recipe;
pub use run::{Membership, State};
use run::{Outcome, Run};

use super::channel::Ids;
use super::channel::hub::{self, Hub, Listener};
use super::ffi;
use super::guard::guard;
use super::log::{self, Level};
use super::request::Request;
use super::template::ComplexValue;
use super::timer::Timer;
use super::upgrade::try_again;
use crate::channel::process::lives;
use crate::channel::store::{Key, Owner, Process as Worker, ProgramHandle, ProgramPhase, ProgramView, SubscribeError};
use crate::exec::spawner::ProgramId;

const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;

/// Looks at the zone that follow each other at once: what one of them changes may ask for the next.
const LOOKS: usize = 8;

/// Milliseconds after which clients look again.
const LATER: u64 = 10;

/// What this worker calls the program of one channel; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SharedId(u64);

/// What events carry. It does not move as long as anything may be called with it.
struct Anchor {
    id: SharedId,
    /// The time that the program outlives its clients.
    linger: Timer,
    /// The program has more to say, or clients are to look at it.
    turn: Timer,
    /// Clients look again.
    later: Timer,
}

/// The program of one channel, as this worker has it.
struct Local {
    recipe: Rc<Recipe>,
    handle: ProgramHandle,
    /// The run that the zone counts, and its clients' view of it.
    number: u32,
    run: Rc<Run>,
    /// Clients of this run, by the numbers of their listeners.
    clients: HashSet<usize>,
    /// Clients that are just coming.
    joining: usize,
    /// Clients of runs that have ended, which may still have to read.
    former: HashSet<usize>,
    /// Clients that are to look again: their messages wait for room, or the last messages of the program for them.
    starved: HashSet<usize>,
    /// The program, if it runs here. Before the anchor: its pipes and timers go first.
    process: Option<Box<Process>>,
    lingering: bool,
    anchor: Box<Anchor>,
}

impl Local {
    fn has_clients(&self) -> bool {
        self.joining > 0 || !self.clients.is_empty()
    }

    fn knows(&self, listener: usize) -> bool {
        self.clients.contains(&listener) || self.former.contains(&listener)
    }
}

/// The group and the id of a channel.
type Name = (Box<[u8]>, Box<[u8]>);

#[derive(Default)]
struct Table {
    locals: HashMap<SharedId, Local>,
    /// The channels that clients come to.
    names: HashMap<Name, SharedId>,
    last: u64,
}

thread_local! {
    static TABLE: RefCell<Table> = RefCell::default();
    /// The worker has been told to go.
    static LEAVING: Cell<bool> = const { Cell::new(false) };
    /// It goes at this moment.
    static ENDING: Cell<bool> = const { Cell::new(false) };
}

fn with<R>(id: SharedId, step: impl FnOnce(&mut Local) -> R) -> Option<R> {
    TABLE.with_borrow_mut(|table| table.locals.get_mut(&id).map(step))
}

/// Adds a client, and sees to it that the program runs. The client is woken when that is so, or when it is not to be; its
/// subscription to the channel has begun.
///
/// # Errors
///
/// The status to answer, which was logged.
pub fn join(
    request: Request,
    program: &[ComplexValue],
    ids: &Ids<'_>,
    listener: Listener,
) -> Result<Membership, isize> {
    let [key] = ids.keys()[..] else {
        request.report(Level::Error, format_args!("a shared program has one channel, the request names several"));
        return Err(ffi::NGX_HTTP_FORBIDDEN as isize);
    };
    let id = match find(key) {
        Some(id) => id,
        None => create(key, Recipe::of(request, program, ids)?)?,
    };
    let attached = attach(key, id);
    if let Err(error) = attached {
        request.report(Level::Error, format_args!("cannot share a program: {error}"));
        tidy(id);
        return Err(match error {
            SubscribeError::NoRoom => ffi::NGX_HTTP_INSUFFICIENT_STORAGE as isize,
            _ => FAILED,
        });
    }
    let Some(run) = with(id, |local| {
        local.joining += 1;
        Rc::clone(&local.run)
    }) else {
        return Err(FAILED);
    };
    examine(id);
    let number = listener.number();
    with(id, |local| {
        local.joining -= 1;
        if Rc::ptr_eq(&local.run, &run) {
            local.clients.insert(number);
        }
    });
    let membership = Membership::new(id, run, number);
    match membership.state() {
        State::Starting | State::Running(_) => Ok(membership),
        State::Refused(status) => {
            drop(membership);
            Err(if status == ffi::NGX_HTTP_SERVICE_UNAVAILABLE as isize { try_again(request) } else { status })
        }
        State::Ended(_) => {
            drop(membership);
            Err(try_again(request))
        }
    }
}

fn find(key: Key<'_>) -> Option<SharedId> {
    TABLE.with_borrow(|table| table.names.get(&(key.group().into(), key.id().into())).copied())
}

fn create(key: Key<'_>, recipe: Recipe) -> Result<SharedId, isize> {
    let attached = hub::with(|hub| hub.attach_program(key)).unwrap_or(Ok(None));
    let Ok(Some(handle)) = attached else { return Err(FAILED) };
    // SAFETY: ngx_cycle is set before workers begin.
    let log = unsafe { (*ffi::ngx_cycle).log };
    TABLE.with_borrow_mut(|table| {
        table.last += 1;
        let id = SharedId(table.last);
        let timer = |handler| Timer::new(handler, std::ptr::null_mut(), log).cancelable();
        let mut anchor = Box::new(Anchor { id, linger: timer(on_linger), turn: timer(on_turn), later: timer(on_turn) });
        let data = NonNull::from(&mut *anchor).as_ptr().cast();
        anchor.linger = Timer::new(on_linger, data, log).cancelable();
        anchor.turn = Timer::new(on_turn, data, log);
        anchor.later = Timer::new(on_turn, data, log).cancelable();
        table.names.insert((key.group().into(), key.id().into()), id);
        let local = Local {
            recipe: Rc::new(recipe),
            handle,
            number: 0,
            run: Rc::default(),
            clients: HashSet::new(),
            joining: 0,
            former: HashSet::new(),
            starved: HashSet::new(),
            process: None,
            lingering: false,
            anchor,
        };
        table.locals.insert(id, local);
        Ok(id)
    })
}

/// Has the zone count this worker among those with clients of a program.
fn attach(key: Key<'_>, id: SharedId) -> Result<(), SubscribeError> {
    let Some(attached) = hub::with(|hub| hub.attach_program(key)) else { return Err(SubscribeError::Corrupt) };
    let handle = attached?.ok_or(SubscribeError::Missing)?;
    let unused = with(id, |local| {
        local.handle = handle;
        !local.has_clients() && local.process.as_ref().is_none_or(|process| process.is_stopping())
    });
    if unused == Some(true)
        && let Some(Ok(Some(view))) = hub::with(|hub| hub.look_at_program(handle, true, 0))
    {
        with(id, |local| {
            local.number = view.run;
            local.run = Rc::default();
        });
    }
    Ok(())
}

/// A client goes.
fn leave(id: SharedId, listener: usize) {
    let was = with(id, |local| {
        local.starved.remove(&listener);
        local.former.remove(&listener);
        local.clients.remove(&listener) && local.clients.is_empty()
    });
    match was {
        Some(true) => examine(id),
        Some(false) => tidy(id),
        None => {}
    }
}

/// Forgets a program that this worker has nothing to do with.
fn tidy(id: SharedId) {
    let forgotten = TABLE.with_borrow_mut(|table| {
        let local = table.locals.get(&id)?;
        if local.has_clients() || !local.former.is_empty() || local.process.is_some() {
            return None;
        }
        let local = table.locals.remove(&id)?;
        table.names.retain(|_, other| *other != id);
        Some(local)
    });
    drop(forgotten);
}

/// Looks at what the zone says of a program, and does what is to be done.
fn examine(id: SharedId) {
    if ENDING.get() {
        return;
    }
    for _ in 0..LOOKS {
        let Some((handle, clients, number)) = with(id, |local| (local.handle, local.has_clients(), local.number))
        else {
            return;
        };
        let looked = match hub::with(|hub| hub.look_at_program(handle, clients, number)) {
            Some(Ok(looked)) => looked,
            // The zone is repaired by its next user; the next tick looks again.
            Some(Err(_)) | None => return,
        };
        let again = match looked {
            Some(view) => act(id, &view),
            None => {
                lost_channel(id);
                false
            }
        };
        if !again {
            break;
        }
    }
    tidy(id);
}

/// What is to be done about the program, in the table.
enum Step {
    Nothing,
    /// It is to be started, if nobody else does.
    Claim,
    /// It has something to read.
    Feed,
    /// It does not run here, though the zone says so.
    Leave,
    /// There is another look to be taken.
    Again,
}

/// Does what a look at the zone asks for. Whether it is to be looked at again.
fn act(id: SharedId, view: &ProgramView) -> bool {
    if let Some(ended) = &view.ended {
        let outcome = Outcome::from_zone(ended);
        with(id, |local| {
            local.number = view.run;
            let run = std::mem::take(&mut local.run);
            run.ended(outcome);
            let clients: Vec<usize> = local.clients.drain().collect();
            local.former.extend(&clients);
            // When what it has published just now has come to them.
            local.starved.extend(clients);
            local.anchor.turn.post_next();
        });
        return true;
    }
    let leaving = LEAVING.get();
    let mut woken = Vec::new();
    let step = with(id, |local| {
        if let ProgramPhase::Running(pid) = view.phase
            && local.run.runs(pid as i32)
        {
            woken.extend(&local.clients);
        }
        woken.extend(local.starved.drain());
        let has_clients = local.has_clients();
        match (&mut local.process, view.owner) {
            (Some(process), Owner::Own) if process.is_stopping() => Step::Nothing,
            (Some(process), Owner::Own) => {
                let deserted = !has_clients && !view.others;
                let hand_over = leaving && (view.successors || (!has_clients && view.others));
                if view.deleted || hand_over {
                    process.stop(local.handle, &local.recipe);
                } else if deserted {
                    if local.recipe.linger == 0 || leaving {
                        // What the last client has sent is for it.
                        process.feed(local.handle);
                        process.stop(local.handle, &local.recipe);
                    } else if !local.lingering {
                        local.lingering = true;
                        local.anchor.linger.arm(local.recipe.linger);
                    }
                } else if local.lingering {
                    local.lingering = false;
                    local.anchor.linger.disarm();
                }
                if view.input { Step::Feed } else { Step::Nothing }
            }
            (process @ Some(_), Owner::Nobody | Owner::Other(_)) => {
                // The zone does not know any more that it is ours.
                if let Some(mut process) = process.take() {
                    process.stop(local.handle, &local.recipe);
                }
                Step::Again
            }
            (None, Owner::Nobody) if has_clients && !view.deleted => Step::Claim,
            // Its end could not be told: the zone was damaged.
            (None, Owner::Own) => Step::Leave,
            (None, Owner::Nobody | Owner::Other(_)) => Step::Nothing,
        }
    });
    wake(id, &woken);
    match step {
        Some(Step::Claim) => claim(id),
        Some(Step::Feed) => {
            run(id);
            false
        }
        Some(Step::Leave) => {
            if let Some(handle) = with(id, |local| local.handle) {
                hub::with(|hub| hub.program_left(handle));
            }
            true
        }
        Some(Step::Again) => true,
        Some(Step::Nothing) | None => false,
    }
}

/// The channel is gone, and what the zone knew of its program. New clients get a new one.
fn lost_channel(id: SharedId) {
    let clients = TABLE.with_borrow_mut(|table| {
        table.names.retain(|_, other| *other != id);
        let local = table.locals.get_mut(&id)?;
        if let Some(mut process) = local.process.take() {
            process.stop(local.handle, &local.recipe);
        }
        let clients: Vec<usize> = local.clients.drain().collect();
        local.former.extend(&clients);
        let run = std::mem::take(&mut local.run);
        if !clients.is_empty() {
            run.ended(Outcome::deleted());
        }
        Some(clients)
    });
    wake(id, &clients.unwrap_or_default());
}

/// Starts the program unless somebody else does. Whether it is to be looked at again.
fn claim(id: SharedId) -> bool {
    let Some((handle, recipe, anchor)) =
        with(id, |local| (local.handle, Rc::clone(&local.recipe), NonNull::from(&mut *local.anchor)))
    else {
        return false;
    };
    if hub::with(|hub| hub.claim_program(handle)) != Some(true) {
        return false;
    }
    match Process::start(&recipe, id, anchor) {
        Ok(process) => {
            with(id, |local| local.process = Some(Box::new(process)));
            false
        }
        Err(outcome) => {
            end_run(handle, &outcome);
            true
        }
    }
}

fn end_run(handle: ProgramHandle, outcome: &Outcome) {
    // If the zone is damaged, the next tick finds that this worker runs nothing.
    hub::with(|hub| hub.program_ended(handle, &outcome.to_zone()));
}

/// Wakes those of these clients that are still there.
fn wake(id: SharedId, clients: &[usize]) {
    for &number in clients {
        if with(id, |local| local.knows(number)) == Some(true)
            && let Some(listener) = Listener::from_number(number)
        {
            listener.wake();
        }
    }
}

/// The program is served: it may read, it may have written, it may have ended.
pub fn run(id: SharedId) {
    let Some(Some((mut process, handle, recipe))) =
        with(id, |local| Some((local.process.take()?, local.handle, Rc::clone(&local.recipe))))
    else {
        return;
    };
    let progress = process.run(handle, &recipe);
    let ended = match progress {
        Progress::Waits => None,
        Progress::More => {
            with(id, |local| local.anchor.turn.post_next());
            None
        }
        Progress::Ended(outcome) => {
            end_run(handle, &outcome);
            process.take_apart(&recipe);
            Some(())
        }
        Progress::Left => {
            hub::with(|hub| hub.program_left(handle));
            Some(())
        }
    };
    if ended.is_some() {
        drop(process);
        with(id, |local| {
            local.lingering = false;
            local.anchor.linger.disarm();
        });
        examine(id);
    } else {
        with(id, |local| local.process = Some(process));
    }
}

/// Whether the program of this worker is this one.
fn runs(id: SharedId, program: ProgramId) -> bool {
    with(id, |local| local.process.as_ref().is_some_and(|process| process.id() == program)) == Some(true)
}

/// The spawner has started a program.
pub fn started(id: SharedId, program: ProgramId, pid: i32) {
    if !runs(id, program) {
        return;
    }
    if let Some(handle) = with(id, |local| local.handle) {
        hub::with(|hub| hub.program_runs(handle, pid.unsigned_abs()));
    }
    examine(id);
    run(id);
}

/// The spawner could not start it.
pub fn failed(id: SharedId, program: ProgramId, exhausted: bool) {
    end_by(id, program, &Outcome::refused(exhausted));
}

/// The spawner is gone, and the program with it.
pub fn lost(id: SharedId, program: ProgramId) {
    end_by(id, program, &Outcome::lost());
}

fn end_by(id: SharedId, program: ProgramId, outcome: &Outcome) {
    if !runs(id, program) {
        return;
    }
    if let Some((handle, process)) = with(id, |local| (local.handle, local.process.take())) {
        drop(process);
        end_run(handle, outcome);
    }
    examine(id);
}

fn all() -> Vec<SharedId> {
    TABLE.with_borrow(|table| table.locals.keys().copied().collect())
}

/// Something has happened to programs that this worker has to do with.
pub fn news() {
    for id in all() {
        if let Some(handle) = with(id, |local| local.handle)
            && hub::with(|hub| hub.has_program_news(handle)) == Some(true)
        {
            examine(id);
        }
    }
}

/// Looks after those whose worker may have died without a word.
pub fn tick() {
    let mut known: Vec<(Worker, bool)> = Vec::new();
    for id in all() {
        let Some((handle, clients, number)) = with(id, |local| (local.handle, local.has_clients(), local.number))
        else {
            continue;
        };
        if let Some(Ok(Some(ProgramView { owner: Owner::Other(worker), .. }))) =
            hub::with(|hub| hub.look_at_program(handle, clients, number))
            && !known.iter().any(|(other, _)| *other == worker)
        {
            let there = lives(worker);
            known.push((worker, there));
            if !there {
                hub::with(|hub| hub.bury(worker));
            }
        }
        examine(id);
    }
}

/// The worker has been told to go: programs that others can run are handed over soon.
pub fn leaving() {
    LEAVING.set(true);
    if all().is_empty() {
        return;
    }
    // Others that have been told as well know it when the next tick comes: only one that stays is to run it.
    hub::with(Hub::leave);
}

/// The worker begins, or goes on with another configuration.
pub fn begin() {
    LEAVING.set(false);
}

/// The worker goes now: nothing is begun any more.
pub fn end() {
    ENDING.set(true);
    let table = TABLE.take();
    drop(table);
}

/// The anchor behind an event.
///
/// # Safety
///
/// The event is one of a timer of an anchor.
unsafe fn of_timer(event: *mut ffi::ngx_event_t) -> Option<SharedId> {
    // SAFETY: the timer carries a pointer to the anchor, which owns it.
    unsafe { (*event).data.cast::<Anchor>().as_ref().map(|anchor| anchor.id) }
}

/// The program has outlived its clients for long enough.
unsafe extern "C" fn on_linger(event: *mut ffi::ngx_event_t) {
    guard((), || {
        // SAFETY: the event is that of a linger timer.
        let Some(id) = (unsafe { of_timer(event) }) else { return };
        let handle = with(id, |local| {
            local.anchor.linger.take_expired();
            local.lingering = false;
            local.handle
        });
        let deserted = handle.and_then(|handle| {
            let clients = with(id, |local| local.has_clients())?;
            let view = hub::with(|hub| hub.look_at_program(handle, clients, 0))?.ok()??;
            Some(!clients && !view.others)
        });
        if deserted == Some(true) {
            with(id, |local| {
                if let Some(process) = &mut local.process {
                    process.stop(local.handle, &local.recipe);
                }
            });
        }
        run(id);
    });
}

/// The program has more to say.
unsafe extern "C" fn on_turn(event: *mut ffi::ngx_event_t) {
    guard((), || {
        // SAFETY: the event is that of a turn.
        let Some(id) = (unsafe { of_timer(event) }) else { return };
        let starved = with(id, |local| {
            local.anchor.turn.take_expired();
            local.anchor.later.take_expired();
            local.starved.drain().collect::<Vec<_>>()
        });
        wake(id, &starved.unwrap_or_default());
        run(id);
    });
}

/// Something can be read of the program, or be written to it.
unsafe extern "C" fn on_pipe(event: *mut ffi::ngx_event_t) {
    guard((), || {
        // SAFETY: the event of a connection has the connection as its data, and that the anchor, which outlives it. When
        // the worker is being shut down nginx marks every connection; the end of the worker ends the program.
        let id = unsafe {
            let connection = (*event).data.cast::<ffi::ngx_connection_t>();
            if ffi::ngx_ws_connection_close_requested(connection) != 0 {
                return;
            }
            (*connection).data.cast::<Anchor>().as_ref().map(|anchor| anchor.id)
        };
        if let Some(id) = id {
            run(id);
        }
    });
}

/// Adds a message to what the program is to read.
fn push(id: SharedId, listener: usize, message: &crate::channel::store::Input) -> run::Pushed {
    use crate::channel::store::InputError;
    use run::Pushed;

    let Some((handle, most)) = with(id, |local| (local.handle, local.recipe.backlog as u64)) else {
        return Pushed::Taken;
    };
    match hub::with(|hub| hub.push_input(handle, message.kind, &message.data, most)) {
        Some(Ok(())) => Pushed::Taken,
        Some(Err(InputError::TooLarge)) => Pushed::TooLarge,
        // Its end is about to be told.
        Some(Err(InputError::Gone)) | None => Pushed::Taken,
        Some(Err(InputError::Full | InputError::Corrupt)) => {
            with(id, |local| local.starved.insert(listener));
            Pushed::Full
        }
    }
}

/// A client looks again a little later.
fn again(id: SharedId, listener: usize) {
    with(id, |local| {
        local.starved.insert(listener);
        local.anchor.later.arm(LATER);
    });
}

/// A line about a program that belongs to no request.
fn report(level: Level, text: std::fmt::Arguments<'_>) {
    log::cycle(level, text);
}
