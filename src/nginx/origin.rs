//! Which pages may connect: `websocket_origin` applied to a request.

use super::request::Request;
use crate::conf::OriginRule;
use crate::ws::origin::{Pattern, Target, is_same};

/// Whether a page of this origin may connect to the location of the request. A request without `Origin` comes from no
/// browser and may.
pub fn is_allowed(request: Request, origin: Option<&[u8]>) -> bool {
    let Some(origin) = origin else { return true };
    let same = || is_same(origin, Target { host: host(request), tls: request.is_tls() });
    request.settings().origin().iter().any(|rule| match rule {
        OriginRule::Same => same(),
        OriginRule::Any => true,
        OriginRule::Pattern(pattern) => pattern.matches(origin),
        OriginRule::Regex(regex) => regex.matches(origin),
        OriginRule::Template(template) => match template.evaluate(request) {
            Some(b"same") => same(),
            Some(b"any") => true,
            // A value that is no pattern, an empty one for example, allows nothing.
            Some(text) => Pattern::parse(text).is_ok_and(|pattern| pattern.matches(origin)),
            None => false,
        },
    })
}

/// The header as it was sent, with the port.
fn host<'r>(request: Request) -> &'r [u8] {
    request.headers().find(|(name, _)| name.eq_ignore_ascii_case(b"host")).map_or(&[], |(_, value)| value)
}
