// SPDX-License-Identifier: Apache-2.0

//! The spawner with real processes.
//!
//! Everything is awaited by descriptors: reports by the spawner's socket, output by pipes, the end of a foreign process
//! by its pidfd.

#![allow(unsafe_code, clippy::unwrap_used)]

mod descendants;
mod directory;
mod hang;
mod harness;
mod life;
mod start;
mod stop;
mod terminal;
