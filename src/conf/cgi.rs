// SPDX-License-Identifier: Apache-2.0

//! What answers requests that ask for no WebSocket, and the words that programs and their directories are named by.

use std::rc::Rc;

use super::directives::{PROGRAM_NAME, compile_all, names_program};
use super::endpoint::{Cgi, EndpointSettings};
use super::settings::Settings;
use super::{Compiler, Refused, Template, words};

/// `websocket_cgi`.
pub(super) fn program<C: Compiler>(
    settings: &mut Settings<C>,
    compiler: &mut C,
    arguments: &[&[u8]],
) -> Result<(), Refused> {
    let program = program_words(compiler, arguments)?;
    answer(settings, Cgi::Program(program))
}

/// `websocket_cgi_dir`.
pub(super) fn directory<C: Compiler>(
    settings: &mut Settings<C>,
    compiler: &mut C,
    arguments: &[&[u8]],
) -> Result<(), Refused> {
    words::no_switch(arguments[0], "a location without programs is one without the directive")?;
    let directory = directory_of_programs(compiler, arguments[0])?;
    answer(settings, Cgi::Directory(directory))
}

/// A program and its arguments.
pub(super) fn program_words<C: Compiler>(compiler: &mut C, arguments: &[&[u8]]) -> Result<Rc<[C::Template]>, Refused> {
    if arguments[0].is_empty() {
        return Err(Refused::value(arguments[0], format!("a program: {PROGRAM_NAME}")));
    }
    words::no_switch(arguments[0], "a location without a program is one without the directive")?;
    let program = compile_all(compiler, arguments)?;
    if program.first().and_then(Template::constant).is_some_and(|name| !names_program(name)) {
        return Err(Refused::value(arguments[0], PROGRAM_NAME));
    }
    Ok(program)
}

/// The directory of the programs that a path picks from.
pub(super) fn directory_of_programs<C: Compiler>(compiler: &mut C, argument: &[u8]) -> Result<C::Template, Refused> {
    if argument.is_empty() {
        return Err(Refused::value(argument, "a directory"));
    }
    let directory = compiler.compile(argument)?;
    if directory.constant().is_some_and(|path| !path.starts_with(b"/")) {
        return Err(Refused::value(argument, "an absolute path"));
    }
    Ok(directory)
}

/// Makes it what answers, unless the location has something else that does.
fn answer<C: Compiler>(settings: &mut Settings<C>, cgi: Cgi<C::Template>) -> Result<(), Refused> {
    if let Some(present) = &settings.cgi {
        let (present, name) = (present.directive(), cgi.directive());
        return Err(if present == name { Refused::Duplicate } else { Refused::Conflict(present) });
    }
    match &settings.endpoint {
        // A channel answers requests that are no upgrade itself.
        Some(EndpointSettings::Channel(_) | EndpointSettings::Shared(_)) => Err(Refused::Conflict("websocket_channel")),
        Some(EndpointSettings::Exec(_) | EndpointSettings::ExecDir(_) | EndpointSettings::Tcp(_)) => {
            settings.cgi = Some(cgi);
            Ok(())
        }
        None => match settings.content() {
            Some(present) => Err(Refused::Conflict(present)),
            None => {
                settings.cgi = Some(cgi);
                Ok(())
            }
        },
    }
}
