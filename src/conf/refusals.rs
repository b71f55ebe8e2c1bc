// SPDX-License-Identifier: Apache-2.0

//! `websocket_refuse_with_close`: which statuses a client is told by a Close.

use std::rc::Rc;

use super::{Refused, value};
use crate::ws::close::CloseCode;

/// Codes that do not say that something was refused.
const ORDERLY: [CloseCode; 2] = [CloseCode::NORMAL, CloseCode::GOING_AWAY];

/// Reads `status=code` ..., or `off`.
///
/// # Errors
///
/// [`Refused`].
pub(super) fn refusals(arguments: &[&[u8]]) -> Result<Rc<[(u16, CloseCode)]>, Refused> {
    let mut refusals = Vec::with_capacity(arguments.len());
    for &argument in arguments {
        if argument == b"off" {
            if arguments.len() > 1 {
                return Err(Refused::Usage("\"off\" stands alone".to_owned()));
            }
            continue;
        }
        let (status, code) = pair(argument).ok_or_else(|| {
            let expected = "status=code with a status from 400 to 599 and a code of a Close: 1002, 1003, 1007 to 1014, \
                            or 3000 to 4999";
            Refused::value(argument, expected)
        })?;
        if refusals.iter().any(|(known, _)| *known == status) {
            return Err(Refused::value(argument, "each status once"));
        }
        refusals.push((status, code));
    }
    Ok(refusals.into())
}

fn pair(argument: &[u8]) -> Option<(u16, CloseCode)> {
    let place = argument.iter().position(|octet| *octet == b'=')?;
    let number = |text| value::decimal(text).and_then(|number| u16::try_from(number).ok());
    let status = number(&argument[..place]).filter(|status| (400..600).contains(status))?;
    let code = CloseCode::new(number(&argument[place + 1..])?).filter(|code| !ORDERLY.contains(code))?;
    Some((status, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs() {
        let read = |text: &[&[u8]]| refusals(text).map(|refusals| refusals.to_vec());
        let code = |number| CloseCode::new(number).unwrap();
        assert_eq!(read(&[b"401=4401", b"503=1013"]), Ok(vec![(401, code(4401)), (503, code(1013))]));
        assert_eq!(read(&[b"off"]), Ok(vec![]));
        for text in [
            "401", "=4401", "401=", "399=4401", "600=4401", "401=1000", "401=1001", "401=1005", "401=1006", "401=5000",
            "401=x", "on", "4401=401",
        ] {
            assert!(read(&[text.as_bytes()]).is_err(), "{text}");
        }
        assert!(read(&[b"401=4401", b"401=4402"]).is_err());
        assert!(read(&[b"401=4401", b"off"]).is_err());
    }
}
