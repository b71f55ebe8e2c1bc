// SPDX-License-Identifier: Apache-2.0

//! The compressors and inflaters of a worker that are not in use.

use super::{Compressor, Inflater};

/// How many of each are kept. More are in use at once only if messages of several connections are unfinished.
const KEPT: usize = 4;

/// Compressors and inflaters that connections borrow for a message.
// They are boxed because they move to a connection and back, and there only the pointer takes room.
#[allow(clippy::vec_box)]
#[derive(Debug, Default)]
pub(in crate::ws) struct Pool {
    compressors: Vec<Box<Compressor>>,
    inflaters: Vec<Box<Inflater>>,
}

impl Pool {
    /// A compressor that knows nothing but these last octets of the messages before.
    pub(in crate::ws) fn compressor(&mut self, level: u8, window: u8, history: &[u8]) -> Box<Compressor> {
        let mut compressor = match self.compressors.iter().position(|kept| kept.is(level, window)) {
            Some(at) => {
                let mut compressor = self.compressors.remove(at);
                compressor.reset();
                compressor
            }
            None => Box::new(Compressor::new(level, window)),
        };
        compressor.refer_to(history);
        compressor
    }

    pub(in crate::ws) fn keep_compressor(&mut self, compressor: Box<Compressor>) {
        if self.compressors.len() == KEPT {
            // The oldest goes, so that settings of a former configuration do not stay.
            self.compressors.remove(0);
        }
        self.compressors.push(compressor);
    }

    /// An inflater that knows nothing but these last octets of the messages before.
    pub(in crate::ws) fn inflater(&mut self, history: &[u8]) -> Box<Inflater> {
        let mut inflater = match self.inflaters.pop() {
            Some(mut inflater) => {
                inflater.reset();
                inflater
            }
            None => Box::new(Inflater::new()),
        };
        inflater.refer_to(history);
        inflater
    }

    pub(in crate::ws) fn keep_inflater(&mut self, inflater: Box<Inflater>) {
        if self.inflaters.len() < KEPT {
            self.inflaters.push(inflater);
        }
    }
}
