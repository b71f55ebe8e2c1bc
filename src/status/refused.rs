// SPDX-License-Identifier: Apache-2.0

//! Why requests to an endpoint were refused, in kinds that can be counted.

/// Statuses that are told from each other. Of the others the hundred is told.
const STATUSES: [u16; 17] = [400, 401, 403, 404, 405, 406, 408, 410, 413, 426, 429, 500, 502, 503, 504, 507, 508];

/// The statuses, and the two kinds of others.
const PLACES: usize = STATUSES.len() + 2;

/// One kind of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(usize);

impl Refused {
    /// How many kinds there are: of each status those of the endpoint and those before it, and a foreign page.
    pub const KINDS: usize = 2 * PLACES + 1;

    const ORIGIN: Self = Self(2 * PLACES);

    /// The page comes from an origin that the location does not allow.
    pub fn by_origin() -> Self {
        Self::ORIGIN
    }

    /// This module has answered with this status.
    pub fn by_endpoint(status: u16) -> Self {
        Self(place(status))
    }

    /// The request has not come to the endpoint: rules for access, limits and the like have answered with this status.
    pub fn before(status: u16) -> Self {
        Self(PLACES + place(status))
    }

    /// Its place in an array of [`Self::KINDS`].
    pub fn index(self) -> usize {
        self.0
    }

    /// The status in words of the status page, and why, of a kind by its place.
    pub fn name(index: usize) -> (String, &'static str) {
        if index == Self::ORIGIN.0 {
            return ("403".to_owned(), "origin");
        }
        let place = index % PLACES;
        let Some(status) = STATUSES.get(place) else {
            let status = if place == STATUSES.len() { "4xx" } else { "5xx" };
            return (status.to_owned(), if index >= PLACES { "nginx" } else { "other" });
        };
        (status.to_string(), if index >= PLACES { "nginx" } else { reason(*status) })
    }
}

fn place(status: u16) -> usize {
    match STATUSES.binary_search(&status) {
        Ok(place) => place,
        Err(_) if status < 500 => STATUSES.len(),
        Err(_) => STATUSES.len() + 1,
    }
}

/// What a status of this module says.
fn reason(status: u16) -> &'static str {
    match status {
        400 | 405 | 406 | 413 | 426 => "request",
        401 | 403 => "denied",
        404 | 410 => "missing",
        408 => "idle",
        429 | 503 => "limit",
        500 | 508 => "failed",
        502 => "unreachable",
        504 => "timeout",
        507 => "full",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let name = |kind: Refused| {
            let (status, reason) = Refused::name(kind.index());
            format!("{status} {reason}")
        };
        assert_eq!(name(Refused::by_origin()), "403 origin");
        assert_eq!(name(Refused::by_endpoint(503)), "503 limit");
        assert_eq!(name(Refused::before(503)), "503 nginx");
        assert_eq!(name(Refused::by_endpoint(422)), "4xx other");
        assert_eq!(name(Refused::before(599)), "5xx nginx");
        let all: std::collections::BTreeSet<_> = (0..Refused::KINDS).map(Refused::name).collect();
        assert_eq!(all.len(), Refused::KINDS, "each has a name of its own");
    }
}
