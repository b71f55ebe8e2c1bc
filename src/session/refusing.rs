// SPDX-License-Identifier: Apache-2.0

//! What is behind a session that was refused, and is opened only so that its client can be told why.
//!
//! A page cannot see the status of a handshake that failed; it sees the code and the reason of a Close.

use super::endpoint::{Ending, Endpoint, Input, Outlet, Produced, Started};
use super::program::LeftProgram;
use crate::ws::connection::Data;

/// An endpoint that says nothing but its Close, and takes no notice of what the client has sent meanwhile.
pub struct Refusing(Ending);

impl Refusing {
    /// For a session that ends like this.
    pub fn new(ending: Ending) -> Self {
        Refusing(ending)
    }
}

impl Endpoint for Refusing {
    fn start(&mut self) -> Started {
        Started::Yes
    }

    fn accepts(&self) -> bool {
        true
    }

    fn deliver(&mut self, _: &Data<'_>) -> Result<(), Ending> {
        Ok(())
    }

    fn flush(&mut self) -> bool {
        false
    }

    fn produce(&mut self, _: &mut Outlet<'_>) -> Produced {
        Produced::Ended(self.0.clone())
    }

    fn client_gone(&mut self, _: Input) -> Option<LeftProgram> {
        None
    }

    fn progress(&self) -> u64 {
        0
    }

    fn is_refusal(&self) -> bool {
        true
    }
}
