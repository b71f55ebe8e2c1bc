// SPDX-License-Identifier: Apache-2.0

//! What is said about a regular expression that does not compile.

/// The reason in what nginx says about `pattern`: nginx names the function of its library first, and the pattern once more.
pub fn regex_error(said: &str, pattern: &str) -> String {
    let reason = said.split_once("() failed: ").map_or(said, |(_, reason)| reason);
    let (reason, at) = match reason.split_once(&format!(" in \"{pattern}\"")) {
        Some((reason, at)) => (reason, at.trim_start_matches(" at ").trim_matches('"')),
        None => (reason, ""),
    };
    if said == reason {
        return reason.to_owned();
    }
    match at {
        "" => format!("it is no regular expression: {reason} at its end"),
        at => format!("it is no regular expression: {reason} before \"{at}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::regex_error;

    #[test]
    fn the_reason_remains() {
        for (said, pattern, expected) in [
            (
                "pcre2_compile() failed: missing closing parenthesis in \"(\"",
                "(",
                "it is no regular expression: missing closing parenthesis at its end",
            ),
            (
                "pcre_compile() failed: nothing to repeat in \"a**b\" at \"*b\"",
                "a**b",
                "it is no regular expression: nothing to repeat before \"*b\"",
            ),
            ("no memory", "x", "no memory"),
            ("this nginx was built without PCRE", "x", "this nginx was built without PCRE"),
        ] {
            assert_eq!(regex_error(said, pattern), expected);
        }
    }
}
