// SPDX-License-Identifier: Apache-2.0

//! What is said to the engine, against a real server of Debian.

#![allow(clippy::unwrap_used)]

mod check;
mod connection;
mod groups;
mod harness;
mod relay;
mod scripts;
