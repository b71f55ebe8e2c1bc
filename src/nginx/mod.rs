//! The nginx side: bindings, module tables, sessions on nginx connections.

mod ffi;
