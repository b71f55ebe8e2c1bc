//! Channels: a log of messages in shared memory, subscriptions to it, and the wire forms of a message.
