// SPDX-License-Identifier: Apache-2.0

//! Templates for messages: any template is read or refused, and what is made of any message by one that says it is JSON is JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::channel::wire::template::{Part, TemplateForm, escape, is_of_form, parts};
use ngx_ws_exec::json::valid::is_value;

fuzz_target!(|data: &[u8]| {
    let (template, value) = data.split_at(data.iter().position(|octet| *octet == 0).unwrap_or(data.len()));
    for form in [TemplateForm::of(template), TemplateForm::Json, TemplateForm::Jsonp, TemplateForm::Text] {
        let Ok(parts) = parts(template, form) else { continue };
        if !is_of_form(&parts, form) {
            continue;
        }
        let mut made = Vec::new();
        for part in &parts {
            match part {
                Part::Literal(text) => made.extend_from_slice(text),
                Part::Variable { place, .. } => match escape(value, *place, form) {
                    Ok(text) => made.extend_from_slice(&text),
                    Err(_) => return,
                },
            }
        }
        if form == TemplateForm::Json {
            assert!(is_value(std::str::from_utf8(&made).expect("UTF-8")), "{template:?} {value:?}");
        }
    }
});
