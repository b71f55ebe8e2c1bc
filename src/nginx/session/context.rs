// SPDX-License-Identifier: Apache-2.0

//! What this module keeps for a request.

use crate::nginx::hold::Holder;
use crate::nginx::request::{Request, bytes};
use crate::session::record::Record;

/// The values behind the `$websocket_…` variables, and who holds the request. It lives in the request's pool: nginx writes
/// the log after the session is gone.
#[derive(Default)]
pub struct Context {
    /// Who holds the request, while somebody does.
    pub holder: Option<Holder>,
    /// `exec`, `channel` or `tcp`.
    pub endpoint: Option<&'static str>,
    /// The subprotocol that was selected; the text is in the pool of the request.
    pub protocol: Option<&'static str>,
    /// What became of the request is counted: that it was opened, or refused.
    pub is_counted: bool,
    /// The page comes from an origin that the location does not allow.
    pub is_foreign: bool,
    /// Why the request is refused, for a client that is told.
    pub refusal: Option<&'static str>,
    /// The channel ids of the request, joined by commas; the text is in the pool of the request.
    pub channel_id: Option<&'static [u8]>,
    /// What has happened since.
    pub record: Record,
}

impl Context {
    /// What a copy of the request is to know; the texts are copied. `None` when there is no memory.
    pub fn copy_for(&self, copy: Request) -> Option<Self> {
        let protocol = match self.protocol {
            Some(protocol) => Some(copy.keep_text(protocol)?),
            None => None,
        };
        let channel_id = match self.channel_id {
            Some(id) => Some(bytes(&copy.copy(id)?)),
            None => None,
        };
        let (endpoint, record) = (self.endpoint, self.record.clone());
        Some(Context {
            holder: None,
            endpoint,
            protocol,
            is_counted: false,
            is_foreign: false,
            refusal: None,
            channel_id,
            record,
        })
    }
}
