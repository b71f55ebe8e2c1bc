// SPDX-License-Identifier: Apache-2.0

//! What the locations of a configuration are called where their figures are shown.

use std::collections::HashMap;

use crate::status::Label;

/// A location as a configuration says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// What the location is connected to.
    pub endpoint: String,
    /// The first name of the server.
    pub server: String,
    /// What the server listens on.
    pub addresses: String,
    /// The name of the location.
    pub location: String,
    /// The names of the locations around it and its own, with what kind of location each is.
    pub path: String,
}

/// Labels for all of them. Most have a server and a name of their own; where others have the same, the addresses of the
/// server and the locations around it are told as well.
pub fn labels(locations: &[Named]) -> Vec<Label> {
    fn count<'a, K: std::hash::Hash + Eq>(all: impl Iterator<Item = K> + 'a) -> HashMap<K, usize> {
        let mut counts = HashMap::new();
        for key in all {
            *counts.entry(key).or_insert(0) += 1;
        }
        counts
    }
    let plain = |named: &Named| (named.endpoint.clone(), named.server.clone(), named.location.clone());
    let exact = |named: &Named| (named.endpoint.clone(), named.server.clone(), named.path.clone());
    let local = |named: &Named| (plain(named), named.addresses.clone());
    let (plains, exacts, locals) =
        (count(locations.iter().map(plain)), count(locations.iter().map(exact)), count(locations.iter().map(local)));
    let is_shared = |count: Option<&usize>| count.is_some_and(|count| *count > 1);
    locations
        .iter()
        .map(|named| {
            let Named { endpoint, server, addresses, location, path } = named;
            if !is_shared(plains.get(&plain(named))) {
                return Label::new(endpoint, server, location);
            }
            let server = match is_shared(exacts.get(&exact(named))) {
                true => format!("{server} {addresses}").trim().to_owned(),
                false => server.clone(),
            };
            let location = if is_shared(locals.get(&local(named))) { path } else { location };
            Label::new(endpoint, &server, location)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(server: &str, addresses: &str, location: &str, path: &str) -> Named {
        let [server, addresses, location, path] = [server, addresses, location, path].map(str::to_owned);
        Named { endpoint: "exec".to_owned(), server, addresses, location, path }
    }

    #[test]
    fn only_where_it_is_needed_more_is_told() {
        let locations = [
            named("a", "0.0.0.0:80", "/x", "/x"),
            named("a", "0.0.0.0:81", "/x", "/x"),
            named("", "0.0.0.0:80", "/x", "/x"),
            named("b", "0.0.0.0:80", "/c", "/c"),
            named("b", "0.0.0.0:80", "/c", "= /c"),
            named("b", "0.0.0.0:80", "x$", "/c ~ x$"),
            named("b", "0.0.0.0:80", "x$", "/d ~ x$"),
            named("b", "0.0.0.0:80", "/e", "/e"),
        ];
        let labels = labels(&locations);
        let shown: Vec<_> = labels.iter().map(|label| (label.server(), label.location())).collect();
        let expected = [
            ("a 0.0.0.0:80", "/x"),
            ("a 0.0.0.0:81", "/x"),
            ("", "/x"),
            ("b", "/c"),
            ("b", "= /c"),
            ("b", "/c ~ x$"),
            ("b", "/d ~ x$"),
            ("b", "/e"),
        ];
        assert_eq!(shown, expected);
    }
}
