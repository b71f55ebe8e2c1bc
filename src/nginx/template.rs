//! Arguments with nginx variables, and regular expressions.

use std::ptr;

use super::ffi;
use super::request::{Request, bytes};
use super::tcp;
use crate::conf::{Compiler, Refused, Template};

/// Compiles for the directive that is being read.
pub struct NginxCompiler {
    cf: *mut ffi::ngx_conf_t,
}

impl NginxCompiler {
    /// For a directive's handler, which got `cf` from nginx.
    pub fn new(cf: *mut ffi::ngx_conf_t) -> Self {
        NginxCompiler { cf }
    }

    /// What nginx passed to the directive's handler.
    pub fn cf(&self) -> *mut ffi::ngx_conf_t {
        self.cf
    }

    /// A copy in the configuration's pool, ended by a NUL that is not counted: nginx's compilers look one octet ahead.
    pub fn copy(&self, text: &[u8]) -> Result<ffi::ngx_str_t, Refused> {
        // SAFETY: cf is valid while its directive is read; the allocation has room for the text and a NUL.
        unsafe {
            let data = ffi::ngx_pnalloc((*self.cf).pool, text.len() + 1).cast::<u8>();
            if data.is_null() {
                return Err(Refused::Reported);
            }
            ptr::copy_nonoverlapping(text.as_ptr(), data, text.len());
            data.add(text.len()).write(0);
            Ok(ffi::ngx_str_t { len: text.len(), data })
        }
    }
}

impl Compiler for NginxCompiler {
    type Template = ComplexValue;
    type Regex = Regex;
    type Service = tcp::Address;
    type Tls = tcp::Tls;

    fn compile(&mut self, argument: &[u8]) -> Result<ComplexValue, Refused> {
        let mut text = self.copy(argument)?;
        // SAFETY: the value lives in the configuration's pool, like what nginx makes of it; all zeroes is its start.
        unsafe {
            let value = ffi::ngx_pcalloc((*self.cf).pool, size_of::<ffi::ngx_http_complex_value_t>())
                .cast::<ffi::ngx_http_complex_value_t>();
            if value.is_null() {
                return Err(Refused::Reported);
            }
            let mut compile: ffi::ngx_http_compile_complex_value_t = std::mem::zeroed();
            compile.cf = self.cf;
            compile.value = &raw mut text;
            compile.complex_value = value;
            if ffi::ngx_http_compile_complex_value(&raw mut compile) != ffi::NGX_OK as isize {
                return Err(Refused::Reported);
            }
            Ok(ComplexValue(value))
        }
    }

    fn regex(&mut self, pattern: &[u8]) -> Result<Regex, Refused> {
        let text = self.copy(pattern)?;
        let mut error = [0u8; ffi::NGX_MAX_CONF_ERRSTR as usize];
        // SAFETY: nginx copies what it needs of the struct into the pool; the error text is only read when it was set.
        unsafe {
            let mut compile: ffi::ngx_regex_compile_t = std::mem::zeroed();
            compile.pattern = text;
            compile.pool = (*self.cf).pool;
            compile.err.len = error.len();
            compile.err.data = error.as_mut_ptr();
            compile.options = ffi::NGX_REGEX_CASELESS as _;
            if ffi::ngx_regex_compile(&raw mut compile) != ffi::NGX_OK as isize {
                return Err(Refused::value(pattern, String::from_utf8_lossy(bytes(&compile.err))));
            }
            Ok(Regex(compile.regex))
        }
    }

    fn service(&mut self, address: &[u8]) -> Result<tcp::Address, Refused> {
        tcp::Address::compile(self, address)
    }
}

/// A compiled argument, in the pool of the configuration it came from.
#[derive(Clone, Copy)]
pub struct ComplexValue(*mut ffi::ngx_http_complex_value_t);

impl Template for ComplexValue {
    fn constant(&self) -> Option<&[u8]> {
        // SAFETY: the value lives as long as its configuration, and so do the settings that hold it.
        let value = unsafe { &*self.0 };
        value.lengths.is_null().then(|| bytes(&value.value))
    }
}

impl ComplexValue {
    /// The text for one request; `None` when nginx has no memory.
    pub fn evaluate<'r>(&self, request: Request) -> Option<&'r [u8]> {
        let mut text = ffi::ngx_str_t { len: 0, data: ptr::null_mut() };
        // SAFETY: request and configuration live; the result is in one of their pools, both outlive the borrow.
        unsafe {
            (ffi::ngx_http_complex_value(request.raw(), self.0, &raw mut text) == ffi::NGX_OK as isize)
                .then(|| bytes(&text))
        }
    }
}

/// A compiled regular expression.
#[derive(Clone, Copy)]
pub struct Regex(*mut ffi::ngx_regex_t);

impl Regex {
    /// Whether it matches somewhere in the text.
    pub fn matches(&self, text: &[u8]) -> bool {
        let mut subject = ffi::ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() };
        // SAFETY: without room for captures the library only reads the subject.
        unsafe { ffi::ngx_regex_exec(self.0, &raw mut subject, ptr::null_mut(), 0) >= 0 }
    }
}
