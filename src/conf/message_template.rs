// SPDX-License-Identifier: Apache-2.0

//! `websocket_channel_message_template`: what a location makes of its messages.

use std::rc::Rc;

use super::directives::once;
use super::settings::Settings;
use super::{Compiler, Refused, value, words};
use crate::channel::wire::template::{Part, Piece, Place, Template, TemplateForm, Variable, is_of_form, parts};

/// A template that may have variables of the request.
#[derive(Debug, Clone)]
pub enum MessageTemplate<T> {
    /// It is the same for every subscriber.
    Fixed(Rc<Template>),
    /// It is made for each of them.
    OfRequest {
        /// What it is.
        form: TemplateForm,
        /// Its pieces, in order.
        pieces: Rc<[RequestPiece<T>]>,
    },
}

/// A piece of a template for one subscriber.
#[derive(Debug, Clone)]
pub enum RequestPiece<T> {
    /// It is the same for every subscriber.
    Fixed(Piece),
    /// A variable of the request, and where it stands.
    Variable(T, Place),
}

pub(super) fn template<C: Compiler>(
    settings: &mut Settings<C>,
    compiler: &mut C,
    arguments: &[&[u8]],
) -> Result<(), Refused> {
    let template = match arguments {
        [b"off"] => Ok(None),
        [b"off", ..] => Err(Refused::Usage("\"off\" stands alone".to_owned())),
        [text] => read(compiler, text, TemplateForm::of(text)).map(Some),
        [text, form] => read(compiler, text, value::choice(form, TemplateForm::NAMES)?).map(Some),
        _ => Err(Refused::Usage("the template is missing".to_owned())),
    };
    once(&mut settings.channel_message_template, template)
}

fn read<C: Compiler>(
    compiler: &mut C,
    text: &[u8],
    form: TemplateForm,
) -> Result<MessageTemplate<C::Template>, Refused> {
    if text.is_empty() {
        return Err(Refused::value(
            text,
            "a template such as \"$websocket_channel_id: $websocket_message\", or \"off\"",
        ));
    }
    words::no_switch(text, "a template such as \"$websocket_channel_id: $websocket_message\", or \"off\"")?;
    if str::from_utf8(text).is_err() {
        return Err(words::wrong(text, "it is not UTF-8"));
    }
    let parts = parts(text, form).map_err(|reason| words::wrong(text, reason))?;
    if !is_of_form(&parts, form) {
        let reason = match form {
            TemplateForm::Json => "it is no JSON, whatever the variables are; add \"text\" if it is not meant to be",
            TemplateForm::Jsonp => {
                "it is no function with JSON in its parentheses, whatever the variables are; add \"text\" if it is not meant to be"
            }
            TemplateForm::Text => "it is no text",
        };
        return Err(words::wrong(text, reason));
    }
    let mut pieces = Vec::with_capacity(parts.len());
    for part in parts {
        pieces.push(match part {
            Part::Literal(text) => RequestPiece::Fixed(Piece::Literal(text.into())),
            Part::Variable { name, written, place } => match Variable::named(name) {
                Some(_) if place == Place::Callback => {
                    return Err(words::wrong(text, "the name of the function is no part of a message"));
                }
                Some(variable) => RequestPiece::Fixed(Piece::Value(variable, place)),
                None => RequestPiece::Variable(compiler.compile(written)?, place),
            },
        });
    }
    let fixed = |piece: &RequestPiece<C::Template>| match piece {
        RequestPiece::Fixed(piece) => Some(piece.clone()),
        RequestPiece::Variable(..) => None,
    };
    Ok(match pieces.iter().map(fixed).collect::<Option<Vec<Piece>>>() {
        Some(pieces) => MessageTemplate::Fixed(Rc::new(Template::new(form, pieces, false))),
        None => MessageTemplate::OfRequest { form, pieces: pieces.into() },
    })
}
