// SPDX-License-Identifier: Apache-2.0

//! Which file a recording is.
//!
//! What stands before the first variable names a directory, up to its last slash, and nothing that a client can say leads out
//! of that: what follows is a path below it, made of names that each are a name, and
//! [`create`](crate::exec::create::create) follows no link on it.

use std::fmt;

use crate::exec::create::is_made_of_names;

/// Splits the argument of a directive into the directory, which ends with a slash or is empty, and what follows.
pub fn split(argument: &[u8]) -> (&[u8], &[u8]) {
    let fixed = memchr::memchr(b'$', argument).unwrap_or(argument.len());
    let slash = memchr::memrchr(b'/', &argument[..fixed]).map_or(0, |slash| slash + 1);
    argument.split_at(slash)
}

/// Why a name is not that of a file below the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It leads elsewhere: it has `..` in it.
    Up,
    /// It begins with a slash, and not with the directory.
    Absolute,
    /// A name in it is empty, or `.`.
    Empty,
    /// There is a NUL in it.
    Nul,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unfit::Up => "\"..\" leads out of the directory that stands before the first variable",
            Unfit::Absolute => "it begins with \"/\", and not with the directory that stands before the first variable",
            Unfit::Empty => "a name in it is empty or \".\"",
            Unfit::Nul => "there is a NUL in it",
        })
    }
}

/// The path below a directory that a name leads to; `None` if there is to be no recording. A name may begin with the
/// directory, whose full name ends with a slash: variables may have whole paths.
///
/// # Errors
///
/// [`Unfit`].
pub fn below<'n>(directory: &[u8], name: &'n [u8]) -> Result<Option<&'n [u8]>, Unfit> {
    if name.is_empty() {
        return Ok(None);
    }
    let inside = name.strip_prefix(directory).filter(|_| directory.starts_with(b"/"));
    let path = inside.unwrap_or(name);
    if path.contains(&0) {
        return Err(Unfit::Nul);
    }
    if inside.is_none() && path.starts_with(b"/") {
        return Err(Unfit::Absolute);
    }
    if is_made_of_names(path) {
        return Ok(Some(path));
    }
    let leads_up = path.split(|octet| *octet == b'/').any(|part| part == b"..");
    Err(if leads_up { Unfit::Up } else { Unfit::Empty })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_before_the_first_variable() {
        for (argument, directory, rest) in [
            ("/var/rec/session.json", "/var/rec/", "session.json"),
            ("/var/rec/$request_id.json", "/var/rec/", "$request_id.json"),
            ("/var/rec/s-${request_id}/x.json", "/var/rec/", "s-${request_id}/x.json"),
            ("/var/$a/rec/x", "/var/", "$a/rec/x"),
            ("/$a", "/", "$a"),
            ("rec/$a", "rec/", "$a"),
            ("$a", "", "$a"),
            ("x.json", "", "x.json"),
            ("/var/rec/", "/var/rec/", ""),
        ] {
            assert_eq!(split(argument.as_bytes()), (directory.as_bytes(), rest.as_bytes()), "{argument}");
        }
    }

    #[test]
    fn names_stay_below() {
        for name in ["x", "x.json", "a/b/c", ".x", "...", "a..b", "..a/b.."] {
            assert_eq!(below(b"/rec/", name.as_bytes()), Ok(Some(name.as_bytes())), "{name}");
        }
        assert_eq!(below(b"/rec/", b""), Ok(None));
        assert_eq!(below(b"/rec/", b"/rec/a/b"), Ok(Some(&b"a/b"[..])));
        for (name, unfit) in [
            (&b".."[..], Unfit::Up),
            (b"../x", Unfit::Up),
            (b"a/../x", Unfit::Up),
            (b"a/..", Unfit::Up),
            (b"/rec/../x", Unfit::Up),
            (b"/etc/x", Unfit::Absolute),
            (b"/recx", Unfit::Absolute),
            (b"/rec", Unfit::Absolute),
            (b"/", Unfit::Absolute),
            (b"//x", Unfit::Absolute),
            (b"/rec/", Unfit::Empty),
            (b"/rec//x", Unfit::Empty),
            (b"a//b", Unfit::Empty),
            (b"a/", Unfit::Empty),
            (b"./a", Unfit::Empty),
            (b"a/./b", Unfit::Empty),
            (b"a\0b", Unfit::Nul),
            (b"\0", Unfit::Nul),
        ] {
            assert_eq!(below(b"/rec/", name), Err(unfit), "{}", name.escape_ascii());
        }
    }
}
