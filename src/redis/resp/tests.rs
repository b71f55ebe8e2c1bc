// SPDX-License-Identifier: Apache-2.0

//! Values as they come.

use super::*;
use proptest::prelude::*;

fn parse(octets: &[u8]) -> Result<Vec<Value>, ParseError> {
    let (mut parser, mut input, mut values) = (Parser::new(Limits::default()), octets, Vec::new());
    while let Some(value) = parser.next(&mut input)? {
        values.push(value);
    }
    assert!(input.is_empty());
    Ok(values)
}

#[test]
fn every_type_is_understood() {
    let octets = b"+OK\r\n-ERR no\r\n:-7\r\n$2\r\nhi\r\n$0\r\n\r\n$-1\r\n*-1\r\n_\r\n#t\r\n#f\r\n,1.5\r\n(12345678901234567890\r\n\
        !5\r\nERR x\r\n=6\r\ntxt:ab\r\n*2\r\n:1\r\n*1\r\n$1\r\na\r\n*0\r\n%1\r\n+k\r\n:2\r\n~1\r\n:3\r\n>2\r\n+message\r\n+x\r\n";
    let expected = vec![
        Value::Simple(b"OK".to_vec()),
        Value::Error(b"ERR no".to_vec()),
        Value::Integer(-7),
        bulk("hi"),
        bulk(""),
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Boolean(true),
        Value::Boolean(false),
        bulk("1.5"),
        bulk("12345678901234567890"),
        Value::Error(b"ERR x".to_vec()),
        bulk("ab"),
        Value::Array(vec![Value::Integer(1), Value::Array(vec![bulk("a")])]),
        Value::Array(vec![]),
        Value::Map(vec![Value::Simple(b"k".to_vec()), Value::Integer(2)]),
        Value::Array(vec![Value::Integer(3)]),
        Value::Push(vec![Value::Simple(b"message".to_vec()), Value::Simple(b"x".to_vec())]),
    ];
    assert_eq!(parse(octets), Ok(expected));
}

#[test]
fn an_attribute_is_read_over() {
    assert_eq!(parse(b"|1\r\n+ttl\r\n:3\r\n$1\r\na\r\n"), Ok(vec![bulk("a")]));
    assert_eq!(parse(b"*1\r\n|1\r\n+a\r\n*1\r\n:1\r\n:5\r\n"), Ok(vec![Value::Array(vec![Value::Integer(5)])]));
    assert_eq!(parse(b"|0\r\n:5\r\n"), Ok(vec![Value::Integer(5)]));
}

#[test]
fn what_is_no_reply_is_refused() {
    for (octets, error) in [
        (&b"HTTP/1.1 400\r\n"[..], ParseError::Type(b'H')),
        (b":1a\r\n", ParseError::Number),
        (b":\r\n", ParseError::Number),
        (b"$-2\r\n", ParseError::Number),
        (b"*?\r\n", ParseError::Number),
        (b"#x\r\n", ParseError::Number),
        (b"_x\r\n", ParseError::Number),
        (b"+a\nb\r\n", ParseError::End),
        (b"+a\n", ParseError::End),
        (b"+a\rb", ParseError::End),
        (b"$1\r\nabc", ParseError::End),
        (b"=2\r\nab\r\n", ParseError::End),
        (b"$999999999999\r\n", ParseError::Octets),
        (b"*999999999999\r\n", ParseError::Elements),
        (b"%9223372036854775807\r\n", ParseError::Elements),
    ] {
        assert_eq!(parse(octets), Err(error), "{}", octets.escape_ascii());
    }
}

#[test]
fn limits_hold_on_both_sides() {
    let limits = Limits { depth: 2, line: 4, elements: 6, octets: 5 };
    let one = |octets: &[u8]| {
        let mut input = octets;
        Parser::new(limits).next(&mut input)
    };
    assert!(one(b"*1\r\n*1\r\n:1\r\n").is_ok_and(|value| value.is_some()));
    assert_eq!(one(b"*1\r\n*1\r\n*1\r\n:1\r\n"), Err(ParseError::Depth));
    assert!(one(b"+abcd\r\n").is_ok_and(|value| value.is_some()));
    assert_eq!(one(b"+abcde"), Err(ParseError::Line));
    assert!(one(b"*5\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n").is_ok_and(|value| value.is_some()));
    assert_eq!(one(b"*6\r\n"), Err(ParseError::Elements));
    assert!(one(b"*2\r\n$2\r\nab\r\n$3\r\nabc\r\n").is_ok_and(|value| value.is_some()));
    assert_eq!(one(b"*2\r\n$2\r\nab\r\n$4\r\n"), Err(ParseError::Octets));
}

#[test]
fn limits_are_those_of_one_reply() {
    let mut parser = Parser::new(Limits { depth: 1, line: 8, elements: 2, octets: 4 });
    let mut input: &[u8] = &b"*1\r\n$4\r\nabcd\r\n".repeat(100);
    for _ in 0..100 {
        assert!(parser.next(&mut input).is_ok_and(|value| value.is_some()));
    }
    assert_eq!(parser.next(&mut input), Ok(None));
}

#[test]
fn deep_nesting_ends_at_the_limit_and_not_at_the_stack() {
    let octets = b"*1\r\n".repeat(100_000);
    assert_eq!(parse(&octets), Err(ParseError::Depth));
}

fn encode(value: &Value, out: &mut Vec<u8>) {
    let mut list = |kind: char, count: usize, values: &[Value]| {
        out.extend_from_slice(format!("{kind}{count}\r\n").as_bytes());
        values.iter().for_each(|value| encode(value, out));
    };
    match value {
        Value::Array(values) => list('*', values.len(), values),
        Value::Map(values) => list('%', values.len() / 2, values),
        Value::Push(values) => list('>', values.len(), values),
        Value::Null => out.extend_from_slice(b"_\r\n"),
        Value::Integer(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
        Value::Boolean(is_true) => out.extend_from_slice(if *is_true { b"#t\r\n" } else { b"#f\r\n" }),
        Value::Simple(text) => out.extend_from_slice(&[b"+", &text[..], b"\r\n"].concat()),
        Value::Error(text) => out.extend_from_slice(&[b"-", &text[..], b"\r\n"].concat()),
        Value::Bulk(octets) => {
            out.extend_from_slice(format!("${}\r\n", octets.len()).as_bytes());
            out.extend_from_slice(&[&octets[..], b"\r\n"].concat());
        }
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        any::<bool>().prop_map(Value::Boolean),
        "[ -~]{0,20}".prop_map(|text| Value::Simple(text.into_bytes())),
        "[ -~]{0,20}".prop_map(|text| Value::Error(text.into_bytes())),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Bulk),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Push),
            proptest::collection::vec((inner.clone(), inner), 0..3)
                .prop_map(|pairs| Value::Map(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect())),
        ]
    })
}

proptest! {
    /// Whatever the pieces in which it comes, a reply is the same.
    #[test]
    fn every_split_is_the_same(values in proptest::collection::vec(any_value(), 1..4), size in 1_usize..20) {
        let mut octets = Vec::new();
        values.iter().for_each(|value| encode(value, &mut octets));
        let (mut parser, mut found) = (Parser::new(Limits::default()), Vec::new());
        for mut piece in octets.chunks(size) {
            while let Some(value) = parser.next(&mut piece).unwrap() {
                found.push(value);
            }
            prop_assert!(piece.is_empty());
        }
        prop_assert_eq!(found, values);
    }

    /// Arbitrary octets end in an error or in waiting, and take no more memory than they have octets.
    #[test]
    fn arbitrary_octets_are_survived(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut parser = Parser::new(Limits::default());
        let mut input = &octets[..];
        while let Ok(Some(_)) = parser.next(&mut input) {}
    }
}
