// SPDX-License-Identifier: Apache-2.0

//! A whole session: client, endpoint, timer, drain and kill in any order. What it checks is written at the simulation.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::session::simulation;

fuzz_target!(|data: &[u8]| simulation::run(data));
