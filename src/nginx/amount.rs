// SPDX-License-Identifier: Apache-2.0

//! Limits that may depend on the request.

use super::log::{Level, Octets};
use super::request::Request;
use super::status::Status;
use super::template::ComplexValue;
use crate::conf::{Amount, Refused};

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
