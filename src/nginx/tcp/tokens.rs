// SPDX-License-Identifier: Apache-2.0

//! `$websocket_tcp_target`: the address that belongs to the token of a request.

use crate::nginx::log::Level;
use crate::nginx::request::Request;
use crate::nginx::timer::now;
use crate::tcp::tokens::argument;

/// The address of the request's argument `token` in the file or directory of its location. `None` where there is none, so that
/// `websocket_tcp` answers 404.
pub fn token_target(request: Request<'_>) -> Option<Vec<u8>> {
    let tokens = request.settings().tcp_tokens()?;
    let token = argument(request.arguments())?;
    let mut report = |text: &str| {
        request.report(Level::Error, format_args!("\"websocket_tcp_tokens\": {text}"));
    };
    tokens.target(&token, now(), &mut report)
}
