//! Somebody on a channel, for those who want to know: who is let in, that they came, and that they went.
//!
//! A member is dropped when its subscription ends, however that comes about; exactly then its leave is told. Nothing of this
//! exists for a location that names neither a hook nor a channel of events.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;

use super::events::Events;
use super::subscription::Ids;
use crate::channel::event::Happening;
use crate::channel::hook::Joining;
use crate::nginx::detached::{self, Answer, Question};
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::log::Level;
use crate::nginx::request::Request;

const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;
const UNAUTHORIZED: u16 = ffi::NGX_HTTP_UNAUTHORIZED as u16;

/// See the module.
pub struct Member {
    request: Request,
    events: Option<Events>,
    channels: Box<[Box<[u8]>]>,
    /// A hook has let it in, or it has subscribed: its leave is told to a hook.
    known: bool,
    /// Its join was an event, and so is its leave.
    announced: bool,
}

/// Whether somebody has to be asked before this request may subscribe.
pub fn must_ask(request: Request) -> bool {
    request.settings().channel_join_request().is_some()
}

/// Asks whether this request may subscribe. `done` is called in a later turn of the event loop.
///
/// # Errors
///
/// The status to answer.
pub fn ask(request: Request, done: impl FnOnce(Verdict, Option<Request>) + 'static) -> Result<(), isize> {
    let target = request.settings().channel_join_request().ok_or(FAILED)?;
    foresee(request)?;
    let done = |answer: Answer, copy: Option<Request>| {
        let joining = Joining::of(answer.status);
        done(Verdict { joining, challenges: answer.challenges }, copy);
    };
    detached::ask(request, &target, Question::Permission, Box::new(done))
}

/// What was said about a request that wants to subscribe.
pub struct Verdict {
    joining: Joining,
    challenges: Vec<Vec<u8>>,
}

impl Verdict {
    /// Lets the request in, or tells it why not.
    ///
    /// # Errors
    ///
    /// The status to answer.
    pub fn apply(&self, request: Request) -> Result<Option<Member>, isize> {
        match self.joining {
            Joining::Admit => {
                let mut member = Member::admitted(request)?;
                if let Some(member) = &mut member {
                    member.known = true;
                }
                Ok(member)
            }
            Joining::Refuse(status) => {
                request.report(Level::Info, format_args!("\"websocket_channel_join_request\" refuses: {status}"));
                Err(refuse(request, status, &self.challenges))
            }
        }
    }

    /// The client has gone before it could be let in: whoever let it in is told, with the copy of its request.
    pub fn waste(&self, copy: Option<Request>) {
        if let (Joining::Admit, Some(copy)) = (self.joining, copy) {
            leave(copy);
        }
    }
}

/// The status with which a hook refuses a request. What it wants to be shown goes with a 401.
pub fn refuse(request: Request, status: u16, challenges: &[Vec<u8>]) -> isize {
    if status == UNAUTHORIZED && !challenges.iter().all(|challenge| request.add_header("WWW-Authenticate", challenge)) {
        return FAILED;
    }
    isize::from(status as i16)
}

impl Member {
    /// For a request that is about to subscribe, and about which nobody was asked. `None` where nobody wants to know.
    ///
    /// # Errors
    ///
    /// The status to answer.
    pub fn of(request: Request) -> Result<Option<Self>, isize> {
        foresee(request)?;
        Self::admitted(request)
    }

    fn admitted(request: Request) -> Result<Option<Self>, isize> {
        let settings = request.settings();
        let events = Events::of(request)?;
        if events.is_none() && settings.channel_leave_request().is_none() {
            return Ok(None);
        }
        let channels = match (&events, settings.channel()) {
            (Some(_), Some(channel)) => Ids::of(request, channel)?.keys().iter().map(|key| key.id().into()).collect(),
            _ => Box::default(),
        };
        Ok(Some(Member { request, events, channels, known: false, announced: false }))
    }

    /// It has subscribed.
    pub fn joined(&mut self) {
        self.known = true;
        self.announced = true;
        self.tell(Happening::Join);
    }

    fn tell(&self, happening: Happening) {
        if let Some(events) = &self.events {
            for channel in &self.channels {
                events.tell(happening, channel);
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.announced {
            self.tell(Happening::Leave);
        }
        if self.known {
            leave(self.request);
        }
    }
}

/// Who could not be told of when it goes is not let in: a client must not be able to stay unseen.
fn foresee(request: Request) -> Result<(), isize> {
    request.settings().channel_leave_request().map_or(Ok(()), |target| detached::foresee(request, &target))
}

/// Tells the hook that the subscriber of a request has gone.
fn leave(request: Request) {
    if let Some(target) = request.settings().channel_leave_request() {
        // What went wrong was logged, and there is nobody to tell.
        let _ = detached::ask(request, &target, Question::Notice, Box::new(|_, _| {}));
    }
}

thread_local! {
    /// Members that belong to their request alone.
    static OF_REQUESTS: RefCell<HashMap<usize, Member>> = RefCell::default();
}

/// Lets a member go with its request.
///
/// # Errors
///
/// The status to answer: there is no memory.
pub fn keep(member: Member) -> Result<(), isize> {
    let request = member.request.raw();
    // SAFETY: the request is alive; its cleanup runs once.
    unsafe {
        let cleanup = ffi::ngx_http_cleanup_add(request, 0);
        if cleanup.is_null() {
            return Err(FAILED);
        }
        (*cleanup).handler = Some(on_end);
        (*cleanup).data = request.cast();
    }
    OF_REQUESTS.with_borrow_mut(|members| members.insert(request.addr(), member));
    Ok(())
}

/// The worker leaves: whoever is still there is gone.
pub fn end() {
    drop(OF_REQUESTS.take());
}

/// The request is over.
unsafe extern "C" fn on_end(request: *mut c_void) {
    guard((), || {
        drop(OF_REQUESTS.with_borrow_mut(|members| members.remove(&request.addr())));
    });
}
