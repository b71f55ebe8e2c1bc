// SPDX-License-Identifier: Apache-2.0

//! Which pages may connect: `websocket_origin` applied to a request.

use super::request::Request;
use crate::conf::OriginRule;
use crate::ws::origin::{Pattern, Target, is_same};

/// Why a page is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// Pages of every origin are allowed.
    Any,
    /// Its origin is one of those that the location names.
    Named,
}

/// Whether a page of this origin may connect to the location of the request. A request without `Origin` comes from no
/// browser and may.
pub fn is_allowed(request: Request<'_>, origin: Option<&[u8]>) -> bool {
    origin.is_none_or(|origin| trust(request, origin).is_some())
}

/// Why a page of this origin may connect to the location of the request; `None` if it may not.
pub fn trust(request: Request<'_>, origin: &[u8]) -> Option<Trust> {
    let named = |matches: bool| matches.then_some(Trust::Named);
    let same = || named(is_same(origin, Target { host: request.authority(), tls: request.is_tls() }));
    let rules = request.settings().origin();
    let trusts = rules.iter().filter_map(|rule| match rule {
        OriginRule::Same => same(),
        OriginRule::Any => Some(Trust::Any),
        OriginRule::Pattern(pattern) => named(pattern.matches(origin)),
        OriginRule::Regex(regex) => named(regex.matches(origin)),
        OriginRule::Template(template) => match template.evaluate(request)? {
            b"same" => same(),
            b"any" => Some(Trust::Any),
            // A value that is no pattern, an empty one for example, allows nothing.
            text => named(Pattern::parse(text).is_ok_and(|pattern| pattern.matches(origin))),
        },
    });
    let trust = trusts.max();
    if trust.is_none()
        && let Some(context) = request.context()
    {
        context.is_foreign.set(true);
    }
    trust
}
