// SPDX-License-Identifier: Apache-2.0

//! A CGI program that answers at once: what is measured is whoever has started it.

use std::io::{self, Write};

fn main() -> io::Result<()> {
    io::stdout().write_all(b"Content-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n")
}
