//! What the connections of one worker share.

/// Working memory for one call at a time, shared by all connections of a worker.
///
/// What an event borrows from it is gone with the next call for any connection.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The reason of the last Close.
    reason: String,
}

impl Scratch {
    /// Allocates nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Copies a reason, so that it can be handed out.
    pub(super) fn keep_reason(&mut self, reason: &str) -> &str {
        self.reason.clear();
        self.reason.push_str(reason);
        &self.reason
    }
}
