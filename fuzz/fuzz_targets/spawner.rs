// SPDX-License-Identifier: Apache-2.0

//! Any octets as packets between a worker and its spawner, and between a worker and the process that writes its recordings.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::exec::spawner::wire_check;
use ngx_ws_exec::recording::wire;

fuzz_target!(|data: &[u8]| {
    wire_check::run(data);
    if let Some((id, request)) = wire::read_request(data) {
        let mut packet = Vec::new();
        wire::write_request(id, request, &mut packet);
        assert_eq!(wire::read_request(&packet), Some((id, request)));
    }
    if let Some(report) = wire::read_report(data) {
        assert_eq!(wire::read_report(&wire::write_report(&report)), Some(report));
    }
});
