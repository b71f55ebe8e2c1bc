// SPDX-License-Identifier: Apache-2.0

//! What a location lets its channels and their group have.

use crate::channel::store::GroupLimits;
use crate::conf::{count, value};
use crate::nginx::amount::amount;
use crate::nginx::request::Request;
use crate::nginx::status::Status;

/// What the location of a request lets the group of its channels have.
///
/// # Errors
///
/// The status to answer, which was logged.
pub fn of_group(request: Request<'_>) -> Result<GroupLimits, Status> {
    let settings = request.settings();
    let Some(limits) = &settings.channel_group_limits else { return Ok(GroupLimits::default()) };
    let limit = |limit, read| amount(request, "websocket_channel_group_limits", limit, read);
    let number = |amount| limit(amount, count).map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    Ok(GroupLimits {
        channels: number(&limits.channels)?,
        subscribers: number(&limits.subscribers)?,
        messages: number(&limits.messages)?,
        bytes: limit(&limits.bytes, value::size)?,
    })
}

/// The name of the group of a request's channels.
///
/// # Errors
///
/// 500 when there is no memory.
pub fn group_name(request: Request<'_>) -> Result<&[u8], Status> {
    match request.settings().channel_group() {
        Some(group) => group.evaluate(request).ok_or(Status::INTERNAL_SERVER_ERROR),
        None => Ok(b""),
    }
}
