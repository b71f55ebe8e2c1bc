// SPDX-License-Identifier: Apache-2.0

//! A cluster ("Redis cluster specification"): which node has which slot, who is asked for that, and where commands go.

pub mod dispatch;
pub mod slots;
pub mod survey;
