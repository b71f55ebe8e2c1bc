// SPDX-License-Identifier: Apache-2.0

//! One program for all clients of a channel, as far as it is the same with every server.

mod run;

pub use run::{Run, RunEnd, State};
