// SPDX-License-Identifier: Apache-2.0

//! Arguments with nginx variables, and regular expressions.

use std::ffi::c_void;
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::rc::Rc;

use super::ffi;
use super::request::{Request, bytes};
use super::status::Status;
use super::tcp::address::Address;
use super::tls::Tls;
use super::user::User;
use crate::conf::{self, Compiler, Refused, Template};

/// Looks a user and a group up for the configuration that is being read.
type LookUp = fn(*mut ffi::ngx_conf_t, &[u8], Option<&[u8]>) -> Result<Rc<User>, Refused>;

/// What a directive asks of the settings of the whole configuration, which is being read.
pub struct Whole {
    /// Looks a user and a group up.
    pub user: LookUp,
    /// Notes the full name of a file or directory, which is looked at once all of it is read.
    pub path: fn(*mut ffi::ngx_conf_t, &[u8]),
    /// Notes the full name of a directory that recordings are made in, which is looked at then, too.
    pub directory: fn(*mut ffi::ngx_conf_t, &[u8]),
}

/// Compiles for the directive that is being read.
pub struct NginxCompiler {
    cf: *mut ffi::ngx_conf_t,
    whole: &'static Whole,
}

impl NginxCompiler {
    /// For a directive's handler, which got `cf` from nginx.
    pub fn new(cf: *mut ffi::ngx_conf_t, whole: &'static Whole) -> Self {
        NginxCompiler { cf, whole }
    }

    /// What nginx passed to the directive's handler.
    pub fn cf(&self) -> *mut ffi::ngx_conf_t {
        self.cf
    }

    /// The full name of a file or directory: a relative one begins at the configuration, or at nginx's prefix.
    fn full_name(&self, argument: &[u8], is_of_configuration: bool) -> Result<Vec<u8>, Refused> {
        let mut path = self.copy(argument)?;
        // SAFETY: cf is valid while its directive is read; what nginx makes of the path is in a pool of the configuration.
        unsafe {
            match ffi::ngx_conf_full_name((*self.cf).cycle, &raw mut path, is_of_configuration.into()) {
                status if status == Status::OK => Ok(bytes(&path).to_vec()),
                _ => Err(Refused::Reported),
            }
        }
    }

    /// A copy in the configuration's pool: see [`copy`].
    pub fn copy(&self, text: &[u8]) -> Result<ffi::ngx_str_t, Refused> {
        copy(self.cf, text)
    }
}

/// A copy in the pool of the configuration that is being read, ended by a NUL that is not counted: nginx's compilers look one
/// octet ahead.
///
/// # Errors
///
/// There is no memory.
pub fn copy(cf: *mut ffi::ngx_conf_t, text: &[u8]) -> Result<ffi::ngx_str_t, Refused> {
    // SAFETY: cf is valid while its directive is read; the allocation has room for the text and a NUL.
    unsafe {
        let data = ffi::ngx_pnalloc((*cf).pool, text.len() + 1).cast::<u8>();
        if data.is_null() {
            return Err(Refused::Reported);
        }
        ptr::copy_nonoverlapping(text.as_ptr(), data, text.len());
        data.add(text.len()).write(0);
        Ok(ffi::ngx_str_t { len: text.len(), data })
    }
}

impl Compiler for NginxCompiler {
    type Template = ComplexValue;
    type Regex = Regex;
    type Service = Address;
    type Tls = Tls;
    type User = Rc<User>;

    fn compile(&mut self, argument: &[u8]) -> Result<ComplexValue, Refused> {
        let mut text = self.copy(argument)?;
        // SAFETY: the value lives in the configuration's pool, like what nginx makes of it and the name of the file; all
        // zeroes is its start.
        unsafe {
            let compiled = ffi::ngx_pcalloc((*self.cf).pool, size_of::<Compiled>()).cast::<Compiled>();
            if compiled.is_null() {
                return Err(Refused::Reported);
            }
            if let Some(file) = (*self.cf).conf_file.as_ref() {
                (*compiled).file = file.file.name;
                (*compiled).line = file.line;
            }
            let value = &raw mut (*compiled).value;
            let mut compile: ffi::ngx_http_compile_complex_value_t = std::mem::zeroed();
            compile.cf = self.cf;
            compile.value = &raw mut text;
            compile.complex_value = value;
            if ffi::ngx_http_compile_complex_value(&raw mut compile) != Status::OK {
                return Err(Refused::Reported);
            }
            Ok(ComplexValue(compiled))
        }
    }

    fn regex(&mut self, pattern: &[u8], caseless: bool) -> Result<Regex, Refused> {
        let mut text = self.copy(pattern)?;
        let mut room = [0u8; ffi::NGX_MAX_CONF_ERRSTR as usize];
        let mut error = ffi::ngx_str_t { len: room.len(), data: room.as_mut_ptr() };
        // SAFETY: nginx copies what it needs into the pool. Where there is no expression, the error is a message, in the
        // room for it or a constant.
        unsafe {
            let regex = ffi::ngx_ws_regex_compile((*self.cf).pool, &raw mut text, caseless.into(), &raw mut error);
            if regex.is_null() {
                let said = String::from_utf8_lossy(bytes(&error));
                return Err(Refused::Wrong {
                    value: lossy(pattern),
                    reason: conf::regex_error(&said, &lossy(pattern)),
                });
            }
            Ok(Regex(regex))
        }
    }

    fn service(&mut self, address: &[u8]) -> Result<Address, Refused> {
        Address::compile(self, address)
    }

    fn path(&mut self, argument: &[u8]) -> Result<Vec<u8>, Refused> {
        let path = self.full_name(argument, true)?;
        (self.whole.path)(self.cf, &path);
        Ok(path)
    }

    fn directory(&mut self, argument: &[u8]) -> Result<Vec<u8>, Refused> {
        let mut path = self.full_name(argument, false)?;
        let refused =
            |reason: &dyn std::fmt::Display| Refused::Usage(format!("the directory \"{}\" {reason}", lossy(&path)));
        match std::fs::metadata(std::ffi::OsStr::from_bytes(&path)) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(refused(&"is no directory")),
            // Whoever tests a configuration may not be allowed to look.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(refused(&format_args!("cannot be used: {error}"))),
        }
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        (self.whole.directory)(self.cf, &path);
        Ok(path)
    }

    fn user(&mut self, name: &[u8], group: Option<&[u8]>) -> Result<Rc<User>, Refused> {
        (self.whole.user)(self.cf, name, group)
    }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// What is kept of an argument.
struct Compiled {
    value: ffi::ngx_http_complex_value_t,
    /// The file that the value is written in.
    file: ffi::ngx_str_t,
    line: usize,
}

/// A compiled argument, in the pool of the configuration it came from.
#[derive(Clone, Copy)]
pub struct ComplexValue(*mut Compiled);

impl Template for ComplexValue {
    fn constant(&self) -> Option<&[u8]> {
        // SAFETY: the value lives as long as its configuration, and so do its text and the settings that hold it.
        unsafe {
            let value = &(*self.0).value;
            value.lengths.is_null().then(|| bytes(&value.value))
        }
    }
}

impl ComplexValue {
    /// The file of the configuration that it is written in, empty for nginx's command line, and the line there.
    pub fn written(&self) -> (&[u8], usize) {
        // SAFETY: the value lives as long as its configuration, and so does the name.
        unsafe { (bytes(&(*self.0).file), (*self.0).line) }
    }

    /// The text as it is written, with the names of its variables.
    pub fn text(&self) -> &[u8] {
        // SAFETY: the value lives as long as its configuration; nginx keeps the text in it.
        unsafe { bytes(&(*self.0).value.value) }
    }

    /// The text for one request; `None` when nginx has no memory.
    pub fn evaluate<'r>(&self, request: Request<'r>) -> Option<&'r [u8]> {
        // SAFETY: the value lives as long as its configuration, and that as long as the request.
        unsafe { evaluate(&raw mut (*self.0).value, request) }
    }
}

/// The text of a value of nginx's for one request; `None` when nginx has no memory.
///
/// # Safety
///
/// The value belongs to the configuration that the request is served by.
pub unsafe fn evaluate<'r>(value: *mut ffi::ngx_http_complex_value_t, request: Request<'r>) -> Option<&'r [u8]> {
    let mut text = ffi::ngx_str_t { len: 0, data: ptr::null_mut() };
    // SAFETY: request and value live, by the promise of the caller; the result is in the pool of one of them, both outlive the borrow.
    unsafe { (ffi::ngx_http_complex_value(request.raw(), value, &raw mut text) == Status::OK).then(|| bytes(&text)) }
}

/// A compiled regular expression, nginx's `ngx_regex_t`.
#[derive(Clone, Copy)]
pub struct Regex(*mut c_void);

impl Regex {
    /// Whether it matches somewhere in the text.
    pub fn matches(&self, text: &[u8]) -> bool {
        let mut subject = ffi::ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() };
        // SAFETY: the expression lives as long as its configuration; the subject is only read.
        unsafe { ffi::ngx_ws_regex_matches(self.0, &raw mut subject) != 0 }
    }
}
