// SPDX-License-Identifier: Apache-2.0

//! TCP services: the rules of relaying between a WebSocket and a stream.

pub mod allow;
pub mod proxy_protocol;
pub mod text;
pub mod tokens;
