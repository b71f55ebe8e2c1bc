// SPDX-License-Identifier: Apache-2.0

//! Commands of `channels.v1`: any octets, and what was understood written again; and a client that sends one after another.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::channel::v1::answer::{self, About};
use ngx_ws_exec::channel::v1::{Begin, Command, Conversation, Fault, Operation};
use ngx_ws_exec::json::object::Object;

fuzz_target!(|data: &[u8]| {
    let mut client = Conversation::new(4);
    for (nth, payload) in data.split(|octet| *octet == b'\n').enumerate() {
        let command = match Command::parse(payload) {
            Ok(command) => command,
            Err(Fault::Foreign(_) | Fault::Refused { .. } | Fault::Memory) => continue,
        };
        assert!(Object::parse(std::str::from_utf8(payload).expect("UTF-8")).is_ok());
        let about = About { reference: command.reference, channel: command.channel.as_deref().map(Into::into) };
        // What the server says of it is an object, with the same channel.
        let told = answer::error(&about, 400, command.channel.as_deref().unwrap_or_default());
        let mut told = Object::parse(&told).expect("an object");
        assert_eq!(told.take("channel").is_some(), command.channel.is_some());
        assert_eq!(told.take("ref").and_then(|value| value.integer()), command.reference);
        let owned = command.clone().into_owned();
        assert_eq!(owned, command);
        let channel = command.channel.as_deref();
        match (client.begin(&command), &command.operation) {
            (Begin::Later, _) => client.hold(owned),
            (Begin::Now, Operation::Subscribe { .. }) if nth % 2 == 0 => client.joining(channel),
            (Begin::Now, Operation::Subscribe { .. }) => client.joined(channel, nth),
            (Begin::Now, Operation::Unsubscribe) => assert!(client.remove(channel).is_some()),
            (Begin::Now, Operation::Publish(_)) => client.publishing(nth % 3 == 0),
            (Begin::Now, Operation::Presence | Operation::Ping) | (Begin::Refuse(..), _) => {
                client.answer(String::new())
            }
        }
        // Whoever was asked answers.
        if nth % 5 == 0 {
            let waiting: Vec<_> = client
                .entries()
                .iter()
                .filter(|entry| entry.subscription.is_none())
                .map(|entry| entry.channel.clone())
                .collect();
            for channel in waiting {
                if nth % 10 == 0 { client.joined(channel.as_deref(), nth) } else { client.refused(channel.as_deref()) }
            }
            client.published(true);
            while client.next_held().is_some() {}
        }
        assert!(client.entries().len() <= 4);
    }
});
