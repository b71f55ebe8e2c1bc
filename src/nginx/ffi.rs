// SPDX-License-Identifier: Apache-2.0

//! nginx's own types and functions, made by bindgen from the headers of the nginx that the module is built for.

#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals, dead_code, missing_docs)]
#![allow(clippy::all, clippy::undocumented_unsafe_blocks)]
#![allow(unsafe_op_in_unsafe_fn)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

pub use shim::*;

/// The module's own C, `ngx/*.c`, all of which is used.
mod shim {
    #![warn(dead_code)]

    use super::*;

    include!(concat!(env!("OUT_DIR"), "/shim.rs"));
}
