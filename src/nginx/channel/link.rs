// SPDX-License-Identifier: Apache-2.0

//! What joins a session and the hooks that it waits for. Either may be gone first.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::failure::Failure;
use super::member::JoinDecision;
use crate::channel::store::Info;
use crate::nginx::session::{self, Session, SessionRef};

/// What a hook has brought about.
pub enum News {
    /// Whether the session may subscribe.
    Join(JoinDecision),
    /// Its message was dealt with; what it is told of the channels.
    Published(Result<Info, Failure>),
    /// The message with this number was dealt with, after which others may have been published already; what its publisher
    /// is told of the channels.
    Answered(u64, Result<Info, Failure>),
}

/// What a hook has brought about, on its way to a session that may be gone.
pub struct Link<N> {
    session: Cell<Option<SessionRef>>,
    /// What the session has not taken yet, the oldest first.
    news: RefCell<VecDeque<N>>,
}

impl<N> Link<N> {
    /// A link to a session.
    pub fn new(session: SessionRef) -> Rc<Self> {
        Rc::new(Link { session: Cell::new(Some(session)), news: RefCell::default() })
    }

    /// Brings the session news. They come back when it has gone. To be called at the outermost level.
    pub fn tell(&self, news: N) -> Option<N> {
        let Some(session) = self.session.get() else { return Some(news) };
        self.news.borrow_mut().push_back(news);
        session::run(session, Session::pump);
        None
    }

    /// The oldest news, once.
    pub fn take(&self) -> Option<N> {
        self.news.borrow_mut().pop_front()
    }

    /// The session is going.
    pub fn cut(&self) {
        self.session.set(None);
    }
}
