// SPDX-License-Identifier: Apache-2.0

//! Programs that are started while others want the processors: against websocketd.

use std::io;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::Bench;
use super::exec::{BARE, PEER, Subject};
use crate::connect::{self, Until};
use crate::link;
use crate::report::{Goal, OURS, Table, Unit};
use crate::sys;

/// Processes that never sleep, as those of a build do: in one session, which the scheduler sees apart from server and client.
struct Runnable(Child);

impl Runnable {
    fn start(count: u32) -> io::Result<Self> {
        let script =
            format!("trap 'trap - TERM; kill 0' TERM; for n in $(seq {count}); do while :; do :; done & done; wait");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null());
        sys::as_service(&mut command);
        let runnable = Self(command.spawn()?);
        // Until all of them run, and the scheduler has seen how much.
        thread::sleep(Duration::from_millis(500));
        Ok(runnable)
    }
}

impl Drop for Runnable {
    fn drop(&mut self) {
        // It ends its session, and is waited for even if it was gone before.
        let _ = sys::kill(self.0.id(), libc::SIGTERM);
        let _ = self.0.wait();
    }
}

/// Measures and prints the table.
///
/// # Errors
/// When a server does not do its work.
pub fn run(bench: &Bench) -> io::Result<()> {
    /// How many want the processors besides.
    const BESIDE: [u32; 3] = [0, 4, 20];

    let mut table = Table::new(&[PEER, BARE, OURS]);
    let connections = bench.effort.scaled(100);
    for count in BESIDE {
        let work = format!("connect to first echo through `cat`, mean, beside {count} runnable processes");
        if !bench.wants(&work) {
            continue;
        }
        let subjects = Subject::all(bench, "bytes", &["/bin/cat"])?;
        for _ in 0..bench.effort.rounds {
            for Subject { name, server, path } in &subjects {
                bench.effort.quiet.wait()?;
                let once = |_| connect::once(link::source(0), server.address, path, Until::Echoed(b"hi"));
                let runnable = (count > 0).then(|| Runnable::start(count)).transpose()?;
                (0..connections / 10).try_for_each(|at| once(at).map(drop))?;
                let all: Duration = (0..connections).map(once).sum::<io::Result<_>>()?;
                drop(runnable);
                let mean = all.as_secs_f64() * 1e3 / connections as f64;
                table.add(&work, Unit::Milliseconds, Goal::AtMostTimes(1.0), name, mean);
            }
        }
    }
    bench.results.add(table.cells());
    println!("### Programs on a busy machine: `bench busy`\n");
    print!("{}", table.markdown());
    println!(
        "\nEach connection starts a `cat`, and is closed when that has returned two octets. The processes beside it never sleep, and are \
         one session.\n"
    );
    Ok(())
}
