// SPDX-License-Identifier: Apache-2.0

//! The subscribers of channels one by one, for a location that tells what is known of them.
//!
//! What is told is what lies in the zone: of the subscribers of this machine, those that have said who they are. It is read there in one
//! step for each channel, and no worker is asked.

use super::hub;
use super::{Ids, answer, argument};
use crate::channel::info::SubscribersReport;
use crate::channel::store::ReadError;
use crate::conf::value;
use crate::nginx::backend;
use crate::nginx::log::Level;
use crate::nginx::request::{Request, try_again};
use crate::nginx::status::Status;
use crate::session::endpoint::HttpStatus;

/// Subscribers that are listed if the client does not say how many, and at most.
const USUAL: usize = 100;
const MOST: usize = 1000;

/// Whether a query asks for subscribers: it has the argument `subscribers`, with or without a value.
pub fn asks_for_subscribers(query: &[u8]) -> bool {
    argument(query, b"subscribers").is_some()
}

/// How many a query asks for. `None` if its value makes no sense.
fn most(query: &[u8]) -> Option<usize> {
    match argument(query, b"limit") {
        None => Some(USUAL),
        Some(digits) => usize::try_from(value::decimal(digits)?).ok().filter(|count| (1..=MOST).contains(count)),
    }
}

/// Lists the subscribers of channels; returns what the content handler returns.
///
/// # Errors
///
/// The status to answer: 400 for a number that makes no sense, 404 where there is no such channel. Where an engine has the channels, one
/// that is not on this machine has nobody here.
pub fn list(request: Request<'_>, ids: &Ids<'_>) -> Result<Status, Status> {
    let Some(most) = most(request.arguments()) else {
        request.report(Level::Info, format_args!("no subscribers are listed, expected a \"limit\" from 1 to {MOST}"));
        return Err(Status::BAD_REQUEST);
    };
    let mut report = SubscribersReport::default();
    let mut left = most;
    let mut is_there = backend::of(request.settings().engine).needs_opening();
    for key in ids.keys() {
        let list = || hub::with(|hub| hub.store.presence().list(key, left));
        // A damaged zone is repaired by the second attempt.
        let found = match list().ok_or_else(|| try_again(request))? {
            Err(ReadError::Corrupt) => list().ok_or_else(|| try_again(request))?,
            found => found,
        };
        let Some(found) = found.map_err(|_| Status::INTERNAL_SERVER_ERROR)? else { continue };
        is_there = true;
        left -= found.named.len();
        report.add(key.id(), &found);
    }
    if !is_there {
        return Err(Status::NOT_FOUND);
    }
    if !request.add_header("Cache-Control", b"no-store") {
        return Err(Status::INTERNAL_SERVER_ERROR);
    }
    Ok(answer::text(request, HttpStatus::OK, SubscribersReport::CONTENT_TYPE, &report.to_string()))
}
