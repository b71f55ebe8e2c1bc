// SPDX-License-Identifier: Apache-2.0

//! What a location lets its channels and their group have.

use crate::channel::store::GroupLimits;
use crate::conf::{Amount, Refused, count, value};
use crate::nginx::log::{Level, Octets};
use crate::nginx::request::Request;
use crate::nginx::status::Status;
use crate::nginx::template::ComplexValue;

/// The value of a limit for this request. `directive` is the one that it belongs to.
///
/// # Errors
///
/// The status to answer, which was logged.
pub fn amount(
    request: Request<'_>,
    directive: &str,
    amount: &Amount<ComplexValue>,
    read: fn(&[u8]) -> Result<u64, Refused>,
) -> Result<u64, Status> {
    match amount {
        Amount::Fixed(amount) => Ok(*amount),
        Amount::Template(template) => {
            let text = template.evaluate(request).ok_or(Status::INTERNAL_SERVER_ERROR)?;
            read(text).map_err(|_| {
                request.report(Level::Error, format_args!("\"{directive}\" cannot be \"{}\"", Octets(text)));
                Status::INTERNAL_SERVER_ERROR
            })
        }
    }
}

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
