// SPDX-License-Identifier: Apache-2.0

//! The steps of [`super::notice`] in every order that the memory model allows.

mod atomic {
    pub use loom::sync::atomic::{AtomicU32, Ordering, fence};
}
#[path = "notice.rs"]
mod notice;

use atomic::{AtomicU32, Ordering::Relaxed};
use loom::sync::Arc;
use loom::thread;

#[test]
fn news_are_seen_or_somebody_is_woken() {
    loom::model(|| {
        // Something has happened that the worker has been told of already.
        let shared = Arc::new((AtomicU32::new(1), AtomicU32::new(0)));
        let other = Arc::clone(&shared);
        let worker = thread::spawn(move || {
            let (flag, news) = &*other;
            notice::take(flag) && news.load(Relaxed) == 1
        });
        let (flag, news) = &*shared;
        news.store(1, Relaxed);
        let woken = notice::raise(flag);
        let seen = worker.join().unwrap();
        assert!(seen || woken);
        assert!(seen || flag.load(Relaxed) == 1, "what was not seen is told at the next look");
    });
}
