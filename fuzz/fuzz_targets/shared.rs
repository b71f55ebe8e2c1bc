// SPDX-License-Identifier: Apache-2.0

//! Programs that clients share, in several workers: clients, processes, timers, workers that go or die and channels that are
//! deleted, in any order. What it checks is written at the simulation.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::session::shared::simulation;

fuzz_target!(|data: &[u8]| simulation::run(data));
