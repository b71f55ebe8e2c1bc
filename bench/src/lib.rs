// SPDX-License-Identifier: Apache-2.0

//! Load client, bare servers and figures for ngx_ws_exec.
//!
//! The client is one thread on raw epoll with non-blocking sockets, and it checks every octet that comes back: content, order,
//! nothing lost, nothing twice. The bare servers do the same work as the module with no HTTP server around it; what they reach is
//! the limit that the kernel sets.
//!
//! CPU time is read from each server process's own CPU clock, to the nanosecond, so other load on the machine disturbs it far less
//! than it disturbs wall-clock time.

pub mod bare;
pub mod connect;
pub mod crowd;
pub mod deflate;
pub mod echo;
pub mod engine;
pub mod fanout;
pub mod figures;
pub mod http;
pub mod link;
pub mod payload;
pub mod picture;
pub mod probe;
pub mod process;
pub mod publishing;
pub mod quiet;
pub mod report;
pub mod results;
pub mod series;
pub mod servers;
pub mod sleeping;
pub mod soak;
pub mod sys;
pub mod tls;
pub mod wire;
