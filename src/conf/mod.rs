// SPDX-License-Identifier: Apache-2.0

//! The values of the directives.
//!
//! One table ([`Table::ROWS`]) names every directive, where it may stand, and the function that reads its arguments into
//! [`Settings`]. A value that may contain nginx variables is kept as a *template*, an opaque type that the nginx side
//! compiles and evaluates; everything else is a plain value, checked when the configuration is read.

mod cgi;
mod channel;
mod choices;
mod directives;
mod endpoint;
mod group;
mod message_template;
mod names;
mod recording;
mod redis;
mod refusals;
mod regex;
mod settings;
mod tcp;
#[cfg(test)]
mod tests;
pub mod value;
mod words;

pub use channel::count;
pub use choices::{ChannelLag, ChannelLongPoll, ChannelMode, ExecStderr};
pub use directives::{Arguments, Directive, PROGRAM_NAME, Place, Table, names_program};
pub use endpoint::{Cgi, Channel, EndpointSettings, Shared};
pub use group::group_change;
pub use message_template::{MessageTemplate, RequestPiece};
pub use names::mode as name_mode;
pub use recording::{RecordingForm, Recordings};
pub use redis::Engine;
pub use regex::regex_error;
pub use settings::{
    Amount, ChannelEvents, EnvEntry, ExecLimit, GroupLimits, History, NameMode, NamePattern, NameRule, OriginRule,
    REDIS_PREFIX, Settings,
};
pub use tcp::{TlsVersions, transfer_rate};

/// Why an argument is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The value and what would have been accepted.
    Value {
        /// The argument as written.
        value: String,
        /// What the directive accepts.
        expected: String,
    },
    /// The value and what is wrong with it.
    Wrong {
        /// The argument as written.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// The directive was given before at this level.
    Duplicate,
    /// Another directive of this location excludes it; names that directive.
    Conflict(&'static str),
    /// The arguments do not fit together.
    Usage(String),
    /// nginx has logged the reason itself (a variable that does not exist, for example).
    Reported,
}

impl Refused {
    /// A value that is refused, and what would have been accepted.
    pub fn value(value: &[u8], expected: impl Into<String>) -> Self {
        Refused::Value { value: String::from_utf8_lossy(value).into_owned(), expected: expected.into() }
    }

    /// What would have been accepted.
    pub fn expected(&self) -> &str {
        match self {
            Refused::Value { expected, .. } => expected,
            Refused::Wrong { .. }
            | Refused::Duplicate
            | Refused::Conflict(_)
            | Refused::Usage(_)
            | Refused::Reported => "what is accepted",
        }
    }
}

/// Compiles arguments that may contain nginx variables.
pub trait Compiler {
    /// An argument that may contain variables, compiled.
    type Template: Template;
    /// A regular expression, compiled.
    type Regex: Clone;
    /// The address of a service, resolved if it does not depend on the request.
    type Service: Clone;
    /// What TLS to a service needs.
    type Tls: Clone;
    /// A user of the system that programs can be started as.
    type User: Clone;

    /// Compiles one argument.
    ///
    /// # Errors
    ///
    /// [`Refused::Reported`] when nginx refuses it: it has logged why.
    fn compile(&mut self, argument: &[u8]) -> Result<Self::Template, Refused>;

    /// Compiles a regular expression; `caseless` if the case of letters does not matter.
    ///
    /// # Errors
    ///
    /// [`Refused`] with what the regular expression library says.
    fn regex(&mut self, pattern: &[u8], caseless: bool) -> Result<Self::Regex, Refused>;

    /// Compiles the address of a service.
    ///
    /// # Errors
    ///
    /// [`Refused::Reported`] when nginx refuses it: it has logged why.
    fn service(&mut self, address: &[u8]) -> Result<Self::Service, Refused>;

    /// The whole path of a file or directory that workers will read: a relative one begins at the configuration.
    ///
    /// # Errors
    ///
    /// [`Refused::Reported`] when there is no memory.
    fn path(&mut self, argument: &[u8]) -> Result<Vec<u8>, Refused>;

    /// The full name of a directory that workers will make files in, with a slash at its end: a relative one begins at nginx's
    /// prefix, as logs do.
    ///
    /// # Errors
    ///
    /// [`Refused`]: it is not there, or is no directory.
    fn directory(&mut self, argument: &[u8]) -> Result<Vec<u8>, Refused>;

    /// Looks up a user, and the group that is to be its primary one.
    ///
    /// # Errors
    ///
    /// [`Refused`]: there is none of that name, or programs cannot be started as this one.
    fn user(&mut self, name: &[u8], group: Option<&[u8]>) -> Result<Self::User, Refused>;
}

/// A compiled argument.
pub trait Template: Clone {
    /// The text, when it contains no variables.
    fn constant(&self) -> Option<&[u8]>;
}
