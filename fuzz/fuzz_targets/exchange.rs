// SPDX-License-Identifier: Apache-2.0

//! A request that a CGI program answers: client, program, pipe and timer in any order. What it checks is written at the simulation.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::session::cgi::simulation;

fuzz_target!(|data: &[u8]| simulation::run(data));
