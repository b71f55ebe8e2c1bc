// SPDX-License-Identifier: Apache-2.0

//! The response of a CGI program (RFC 3875, section 6): the header that it writes first, and what the server is to do about it.
//!
//! The octets of the program go in as they come, and the header comes out once it is complete; the body is whatever is behind it.
//! Nothing here reads or sends.

mod field;
mod head;

pub use head::{Head, HeadError, HeadReader, MOST};
