// SPDX-License-Identifier: Apache-2.0

//! The nginx side: bindings, module tables, sessions on nginx connections.
//!
//! Everything nginx calls goes through [`guard`]: no panic may cross into C. A session is changed only inside
//! [`session::run`], which acts on what it has come to at the outermost level instead of finalizing the request it stands on.

mod acceptance;
mod address;
mod amount;
mod auth_basic;
mod backend;
mod caller;
mod capacity;
mod cgi;
mod channel;
mod client;
mod commands;
mod conf_ctx;
mod connection;
mod console;
mod content;
mod detached;
mod engine;
mod exhaustion;
mod ffi;
mod guard;
mod heap;
mod hold;
mod identity;
mod layout;
mod ledger;
mod listeners;
mod log;
mod main_settings;
mod module;
mod module_file;
mod origin;
mod pipe;
mod process;
mod process_state;
mod program;
mod random;
mod recording;
mod refusal;
mod refused;
mod request;
mod response;
mod response_body;
mod scope;
mod session;
mod shared;
mod status;
mod status_page;
mod tcp;
mod template;
mod timer;
mod tls;
mod upgrade;
mod uptake;
mod user;
mod variables;
mod worker;
