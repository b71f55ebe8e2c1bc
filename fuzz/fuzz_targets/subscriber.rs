// SPDX-License-Identifier: Apache-2.0

//! A whole subscriber: messages, client, program, timer, drain and kill in any order. What it checks is written at the
//! simulation.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::session::subscriber::simulation;

fuzz_target!(|data: &[u8]| simulation::run(data));
