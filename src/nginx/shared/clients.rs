// SPDX-License-Identifier: Apache-2.0

//! Clients that come, go, and send.

use std::rc::Rc;

use super::membership::{Membership, Pushed};
use super::recipe::Recipe;
use super::table::{SharedId, create, find, tidy, with};
use super::{FAILED, examine};
use crate::channel::store::{Input, InputError, Key, SubscribeError};
use crate::nginx::channel::Ids;
use crate::nginx::channel::hub;
use crate::nginx::ffi;
use crate::nginx::listeners::Listener;
use crate::nginx::log::Level;
use crate::nginx::request::{Request, try_again};
use crate::nginx::template::ComplexValue;
use crate::session::endpoint::HttpStatus;
use crate::session::shared::State;

/// Milliseconds after which clients look again.
const LATER: u64 = 10;

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
            Err(match status {
                HttpStatus::UNAVAILABLE => try_again(request),
                HttpStatus(status) => isize::from(status.cast_signed()),
            })
        }
        State::Ended(_) => {
            drop(membership);
            Err(try_again(request))
        }
    }
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
pub(super) fn leave(id: SharedId, listener: usize) {
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

/// Wakes those of these clients that are still there.
pub(super) fn wake(id: SharedId, clients: &[usize]) {
    for &number in clients {
        if with(id, |local| local.knows(number)) == Some(true)
            && let Some(listener) = Listener::from_number(number)
        {
            listener.wake();
        }
    }
}

/// Adds a message to what the program is to read, where no more than `most` octets wait then, or as many as its location
/// says.
pub(super) fn push(id: SharedId, listener: usize, message: &Input, most: Option<u64>) -> Pushed {
    let Some((handle, usual)) = with(id, |local| (local.handle, local.recipe.backlog as u64)) else {
        return Pushed::Taken;
    };
    let most = most.unwrap_or(usual);
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
pub(super) fn again(id: SharedId, listener: usize) {
    with(id, |local| {
        local.starved.insert(listener);
        local.anchor.later.arm(LATER);
    });
}
