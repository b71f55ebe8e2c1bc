// SPDX-License-Identifier: Apache-2.0

//! Texts that may be JSON, and texts that become strings of JSON, against serde_json.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::json::object::{Error, MOST_MEMBERS, Object, Value};
use ngx_ws_exec::json::valid::is_value;
use ngx_ws_exec::json::{escaped, string, string_for_pages};
use serde_json::value::RawValue;

/// Members as they are written, in their order: what is there twice is there twice.
type Members<'t> = Vec<(String, &'t RawValue)>;

struct Flat<'t>(Members<'t>);

impl<'t> serde::Deserialize<'t> for Flat<'t> {
    fn deserialize<D: serde::Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'t> serde::de::Visitor<'t> for Visitor {
            type Value = Flat<'t>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'t>>(self, mut map: A) -> Result<Flat<'t>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Flat(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// The arrays and objects in one another where a text has most of them.
fn depth(text: &str) -> usize {
    let (mut depth, mut most, mut is_quoted, mut is_escaped) = (0_usize, 0, false, false);
    for octet in text.bytes() {
        match octet {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_quoted,
            b'"' => is_quoted = !is_quoted,
            b'[' | b'{' if !is_quoted => depth += 1,
            b']' | b'}' if !is_quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

/// Whether serde_json takes it for JSON, whose strings have no half of a surrogate pair.
fn is_json(text: &str) -> bool {
    fn is_whole(text: &str) -> bool {
        // The value itself would not do: numbers are bounded there.
        let mut rest = text;
        while let Some(at) = rest.find('"') {
            let mut strings = serde_json::Deserializer::from_str(&rest[at..]).into_iter::<String>();
            if !matches!(strings.next(), Some(Ok(_))) {
                return false;
            }
            rest = &rest[at + strings.byte_offset()..];
        }
        true
    }
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() && is_whole(text)
}

fuzz_target!(|data: &[u8]| {
    let said = String::from_utf8_lossy(data);
    for write in [
        |text: &mut String, part: &str| string(text, part),
        |text: &mut String, part: &str| string_for_pages(text, part.as_bytes()),
    ] {
        let mut text = String::new();
        write(&mut text, &said);
        assert_eq!(serde_json::from_str::<String>(&text).as_deref().ok(), Some(&*said));
        assert!(is_value(&text));
    }
    let mut inside = String::new();
    escaped(&mut inside, &said);
    assert_eq!(serde_json::from_str::<String>(&format!("\"{inside}\"")).ok().as_deref(), Some(&*said));

    let Ok(text) = std::str::from_utf8(data) else { return };
    // serde_json gives up at another depth.
    if depth(text) > 100 {
        return;
    }
    assert_eq!(is_value(text), is_json(text), "{text:?}");
    let object = Object::parse(text);
    match serde_json::from_str::<Flat<'_>>(text) {
        Err(_) => assert!(object.is_err(), "{text:?}"),
        Ok(_) if !is_json(text) => assert!(object.is_err(), "{text:?}"),
        Ok(Flat(members)) => {
            let is_nested = members.iter().any(|(_, value)| value.get().starts_with(['{', '[']));
            let mut names: Vec<_> = members.iter().map(|(name, _)| name).collect();
            names.sort();
            names.dedup();
            let mut object = match object {
                Ok(object) => object,
                Err(Error::Nested) => return assert!(is_nested),
                Err(Error::Duplicate) => return assert!(names.len() < members.len()),
                Err(Error::Members) => return assert!(members.len() > MOST_MEMBERS),
                Err(error @ (Error::Syntax | Error::Memory)) => panic!("{error:?}: {text:?}"),
            };
            assert!(!is_nested && names.len() == members.len() && members.len() <= MOST_MEMBERS);
            for (name, value) in &members {
                match object.take(name).expect("a member") {
                    Value::Literal(text) | Value::Number(text) => assert_eq!(text, value.get()),
                    Value::String(text) => assert_eq!(serde_json::from_str(value.get()).ok(), Some(text.into_owned())),
                }
            }
            assert_eq!(object.left(), None);
        }
    }
});
