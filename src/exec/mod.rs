// SPDX-License-Identifier: Apache-2.0

//! Programs: what they are given, how their output becomes messages, and the process that starts them.

pub mod cgi;
pub mod create;
pub mod directory;
pub mod environment;
pub mod framing;
pub mod lookup;
pub mod notes;
pub mod pool;
#[allow(unsafe_code)]
pub mod spawner;
pub mod strings;
pub mod terminal;
