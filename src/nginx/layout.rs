// SPDX-License-Identifier: Apache-2.0

//! The layout guard: what the bindings believe of nginx's structs, compared with what C saw when the shim was compiled.

use std::ffi::{CStr, c_void};
use std::mem::{offset_of, size_of};

use super::ffi::*;
use super::log;

/// Made by build.rs of `ngx/layout`, like `ngx_ws_layout` in the shim.
const LAYOUT: &[usize] = include!(concat!(env!("OUT_DIR"), "/layout.rs"));

/// A bit field as the bindings have it.
struct BitField {
    /// The size of its struct.
    size: usize,
    /// Sets all bits of the field in a struct of this size.
    set: unsafe fn(*mut c_void),
}

/// The bit fields of `ngx/layout`. Made by build.rs, like `ngx_ws_bits` in the shim.
const BITS: &[BitField] = include!(concat!(env!("OUT_DIR"), "/bits.rs"));

/// Whether bindings and shim agree; says in the log where they do not.
pub fn agrees(cf: *mut ngx_conf_t) -> bool {
    let (offsets, bits) = (offsets_agree(cf), bits_agree(cf));
    offsets && bits
}

fn offsets_agree(cf: *mut ngx_conf_t) -> bool {
    // SAFETY: both symbols are constants of the shim that is linked into this module.
    let (shim, count) = unsafe { (&raw const ngx_ws_layout as *const ngx_ws_layout_t, ngx_ws_nlayout) };
    if count != LAYOUT.len() {
        log::configuration(cf, format_args!("ws_exec: the module was put together from parts of two versions"));
        return false;
    }
    LAYOUT.iter().enumerate().all(|(place, &bindings)| {
        // SAFETY: place is below the number of rows that the shim says it has; the names are C literals.
        let (name, value) = unsafe {
            let row = &*shim.add(place);
            (CStr::from_ptr(row.name).to_string_lossy(), row.value)
        };
        if value != bindings {
            log::configuration(
                cf,
                format_args!(
                    "ws_exec: {name} is {value} in nginx's headers but {bindings} in the module's bindings: \
                     rebuild the module for this nginx"
                ),
            );
        }
        value == bindings
    })
}

fn bits_agree(cf: *mut ngx_conf_t) -> bool {
    // SAFETY: both symbols are constants of the shim that is linked into this module.
    let (shim, count) = unsafe { (&raw const ngx_ws_bits as *const ngx_ws_bits_t, ngx_ws_nbits) };
    if count != BITS.len() {
        log::configuration(cf, format_args!("ws_exec: the module was put together from parts of two versions"));
        return false;
    }
    BITS.iter().enumerate().all(|(place, &BitField { size, set })| {
        // SAFETY: place is below the number of rows that the shim says it has; the names are C literals.
        let (name, row) = unsafe {
            let row = &*shim.add(place);
            (CStr::from_ptr(row.name).to_string_lossy(), row)
        };
        let (Some(set_by_shim), true) = (row.set, row.size == size) else {
            // Two structs of different sizes are not comparable; the sizes are among what offsets_agree() looks at.
            return true;
        };
        // What is aligned to a word is aligned for all of these structs.
        let (mut here, mut there) = (vec![0_u64; size.div_ceil(8)], vec![0_u64; size.div_ceil(8)]);
        // SAFETY: both functions write to a bit field of a struct of this size, for which all zeroes is a value.
        unsafe {
            set(here.as_mut_ptr().cast());
            set_by_shim(there.as_mut_ptr().cast(), usize::MAX);
        }
        if here != there {
            log::configuration(
                cf,
                format_args!(
                    "ws_exec: the bits of {name} are others in nginx's headers than in the module's bindings: \
                     rebuild the module for this nginx"
                ),
            );
        }
        here == there
    })
}
