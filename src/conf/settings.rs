// SPDX-License-Identifier: Apache-2.0

//! What the directives of one location say, and what it inherits.

use std::rc::Rc;

use super::{
    Cgi, ChannelLag, ChannelLongPoll, ChannelMode, Compiler, EndpointSettings, Engine, ExecStderr, MessageTemplate,
    Recordings, Refused, TlsVersions, value,
};
use crate::channel::event::Kinds;
use crate::channel::fanout::Rate;
use crate::channel::position::Start;
use crate::channel::transport::Transports;
use crate::channel::wire::Naming;
use crate::exec::framing::Format;
use crate::exec::notes;
use crate::exec::spawner::{Ladder, Limit, Resource};
use crate::exec::terminal::SizePolicy;
use crate::status::StatusForm;
use crate::tcp::allow;
use crate::tcp::proxy_protocol;
use crate::tcp::tokens::Tokens;
use crate::ws::close::CloseCode;
use crate::ws::deflate::{Context, MAX_WINDOW};
use crate::ws::frame::MessageKind;
use crate::ws::origin;

/// What names in an engine begin with where the configuration does not say it.
pub const REDIS_PREFIX: &[u8] = b"ws:";

/// A limit that may depend on the request.
#[derive(Clone)]
pub enum Amount<T> {
    /// A number, octets, or milliseconds; 0 for no limit.
    Fixed(u64),
    /// A text that is such a number once its variables have values.
    Template(T),
}

/// What is kept of the messages of a channel: `websocket_channel_history`.
#[derive(Clone)]
pub enum History<T> {
    /// No message is kept.
    Off,
    /// The newest ones.
    Kept {
        /// How many.
        length: Amount<T>,
        /// How long.
        time: Amount<T>,
    },
}

impl<T> Default for History<T> {
    fn default() -> Self {
        Self::Kept { length: Amount::Fixed(10), time: Amount::Fixed(3_600_000) }
    }
}

/// What a group of channels may have: `websocket_channel_group_limits`.
#[derive(Clone)]
pub struct GroupLimits<T> {
    /// Channels.
    pub channels: Amount<T>,
    /// Subscribers of all channels.
    pub subscribers: Amount<T>,
    /// Messages that are stored in all channels.
    pub messages: Amount<T>,
    /// Octets of these messages.
    pub bytes: Amount<T>,
}

impl<T> Default for GroupLimits<T> {
    fn default() -> Self {
        let none = || Amount::Fixed(0);
        Self { channels: none(), subscribers: none(), messages: none(), bytes: none() }
    }
}

/// One argument of `websocket_origin`.
pub enum OriginRule<C: Compiler> {
    /// Host and port of the request itself.
    Same,
    /// Every origin.
    Any,
    /// An origin of which some parts may be anything.
    Pattern(origin::Pattern),
    /// A regular expression over the whole origin.
    Regex(C::Regex),
    /// Contains variables: read as one of the others, but no regular expression, for each request.
    Template(C::Template),
}

/// One argument of `websocket_channel_names`, with what the line says of it.
pub struct NameRule<C: Compiler> {
    /// Which channels.
    pub name: NamePattern<C>,
    /// What clients may do with them.
    pub mode: NameMode<C::Template>,
}

/// Which channels a rule is about.
pub enum NamePattern<C: Compiler> {
    /// The channel of this name.
    Name(C::Template),
    /// The channels whose names it matches.
    Regex(C::Regex),
}

/// What clients may do with a channel that they name.
#[derive(Clone)]
pub enum NameMode<T> {
    /// This; `None`: nothing.
    Fixed(Option<ChannelMode>),
    /// What the variables say.
    Template(T),
}

/// One argument of `websocket_exec_env`.
#[derive(Clone)]
pub enum EnvEntry<T> {
    /// `NAME=value`: the name, and the template of the value.
    Set(Vec<u8>, T),
    /// `NAME`: nginx's own value is passed.
    Pass(Vec<u8>),
}

/// One argument of `websocket_exec_limit`.
#[derive(Clone)]
pub struct ExecLimit<T> {
    /// What is limited.
    pub resource: Resource,
    /// The template of the value.
    pub value: T,
}

impl<T> ExecLimit<T> {
    /// The limit with this value.
    ///
    /// # Errors
    ///
    /// [`Refused::Value`].
    pub fn limit(&self, value: &[u8]) -> Result<Limit, Refused> {
        let size = self.resource.is_size();
        let value = if size { value::size(value)? } else { value::number(value, 0, u64::MAX)? };
        Ok(Limit { resource: self.resource, value })
    }
}

/// `websocket_channel_events`.
#[derive(Debug, Clone)]
pub struct ChannelEvents<T> {
    /// The channel that is told.
    pub id: T,
    /// Of what it is told.
    pub kinds: Kinds,
    /// How long a subscriber that has gone may come back without being told of, in milliseconds.
    pub grace: u64,
}

/// Declares the settings: their names, types and defaults, inheritance and access.
macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty, $default:expr;)*) => {
        /// What the directives of one level say; `None` where they say nothing.
        pub struct Settings<C: Compiler> {
            /// The endpoint. Of the location alone; see [`Settings::inherit_content`].
            pub endpoint: Option<EndpointSettings<C>>,
            /// What answers requests that ask for no WebSocket. Of the location alone.
            pub cgi: Option<Cgi<C::Template>>,
            /// TLS to the service of the endpoint, made of the other settings for each block anew.
            pub tcp_tls: Option<C::Tls>,
            /// The number of this location among those that are counted; that of the endpoint.
            pub key: u64,
            /// The engine of its channels among those of the configuration; 0: none. See [`Settings::channel_redis`].
            pub engine: usize,
            /// The pool of its programs among those of all configurations that this process has read; 0: none. That of the
            /// endpoint. See [`Settings::exec_pool`].
            pub pool: u64,
            /// The names of the locations around this one, and its own; never inherited.
            pub path: Vec<u8>,
            /// The location shows the figures of all others, in this form. Of the location alone.
            pub status: Option<StatusForm>,
            /// The location shows what its group of channels has, and sets what it may have. Of the location alone.
            pub group_info: bool,
            /// The location has a name that begins with "@": no part of the path led to it.
            pub named: bool,
            $($(#[$doc])* pub $name: Option<$type>,)*
        }

        impl<C: Compiler> Default for Settings<C> {
            fn default() -> Self {
                Settings {
                    endpoint: None,
                    cgi: None,
                    tcp_tls: None,
                    key: 0,
                    engine: 0,
                    pool: 0,
                    path: Vec::new(),
                    status: None,
                    group_info: false,
                    named: false,
                    $($name: None,)*
                }
            }
        }

        impl<C: Compiler> Settings<C> {
            /// Takes from the level above what this level does not say.
            pub fn inherit(&mut self, above: &Self) {
                $(if self.$name.is_none() {
                    self.$name.clone_from(&above.$name);
                })*
            }

            /// Takes what answers the requests of the location around this block, unless this block has something of its
            /// own that does.
            ///
            /// For the blocks inside a location to which a request goes over without being given to another handler:
            /// "if" and "limit_except". What the handler reads has to be found there.
            pub fn inherit_content(&mut self, around: &Self) {
                if self.has_content() {
                    return;
                }
                self.endpoint.clone_from(&around.endpoint);
                self.cgi.clone_from(&around.cgi);
                self.key = around.key;
                self.pool = around.pool;
                self.status = around.status;
                self.group_info = around.group_info;
            }

            /// Whether a directive of this module answers the requests of the location.
            pub fn has_content(&self) -> bool {
                self.content().is_some()
            }

            /// A directive of this module that answers requests of the location.
            pub fn content(&self) -> Option<&'static str> {
                self.content_beside_cgi().or_else(|| self.cgi.as_ref().map(Cgi::directive))
            }

            /// The same, where a CGI program does not count.
            pub fn content_beside_cgi(&self) -> Option<&'static str> {
                match &self.endpoint {
                    Some(endpoint) => Some(endpoint.directive()),
                    None if self.status.is_some() => Some("websocket_status"),
                    None => self.group_info.then_some("websocket_channel_group_info"),
                }
            }

            $($(#[$doc])* pub fn $name(&self) -> $type {
                self.$name.clone().unwrap_or_else(|| $default)
            })*
        }
    };
}

settings! {
    /// Who may connect.
    origin: Rc<[OriginRule<C>]>, Rc::from([OriginRule::Same]);
    /// Subprotocols this location speaks, in no order of preference.
    protocols: Rc<[String]>, Rc::from([]);
    /// The codes of the Close that a client gets in place of a status.
    refuse_with_close: Rc<[(u16, CloseCode)]>, Rc::from([]);
    /// Bound on one assembled message in octets, 0 for none, where a bound is the default.
    message_limit: u64, 1 << 20;
    /// Bound on the payload of one frame in octets, 0 for none.
    max_frame_size: u64, 0;
    /// Payload octets of one outgoing frame at most, 0 for no limit.
    fragment_size: u64, 0;
    /// Silence of the client after which it gets a Ping, in milliseconds; 0 for never.
    ping_interval: u64, 30_000;
    /// How long a Pong is waited for, in milliseconds; 0 for ever.
    ping_timeout: u64, 10_000;
    /// How long no message may go either way, in milliseconds; 0 for ever.
    idle_timeout: u64, 0;
    /// How long the client may accept nothing, in milliseconds; 0 for ever.
    send_timeout: u64, 60_000;
    /// Octets queued for one client above which its source is paused.
    send_buffer: u64, 64 << 10;
    /// Over how long sessions are closed when their worker is told to go, in milliseconds; 0 leaves them.
    drain: u64, 0;
    /// How long the peer's Close is waited for, in milliseconds.
    close_timeout: u64, 5_000;
    /// Whether permessage-deflate is negotiated.
    deflate: bool, false;
    /// 1 (fast) to 9 (small).
    deflate_level: u64, 2;
    /// The base-2 logarithm of the largest window of either side.
    deflate_window: u64, u64::from(MAX_WINDOW);
    /// Octets below which a message goes out uncompressed.
    deflate_min_size: u64, 256;
    /// What a compressed message may refer to of those before it.
    deflate_context: Context, Context::History;
    /// Whether a plain GET shows a page to try the endpoint by hand.
    console: bool, false;
    /// Where sessions are recorded; none where they are not.
    recording: Option<Rc<Recordings<C::Template>>>, None;
    /// Octets of all recordings of a worker that may wait to be written.
    record_queue: u64, super::recording::QUEUE;
    /// How a program's streams are divided into messages.
    exec_format: Format, Format::Lines;
    /// How long the program may take nothing of what waits for it, in milliseconds; 0 for ever.
    exec_send_timeout: u64, 60_000;
    /// Variables for the program.
    exec_env: Rc<[EnvEntry<C::Template>]>, Rc::from([]);
    /// The program's working directory; none for the directory of the program.
    exec_cwd: Option<C::Template>, None;
    /// Programs of this location running at once over all workers, 0 for no limit.
    exec_max: u64, 1024;
    /// What becomes of the program's standard error.
    exec_stderr: ExecStderr, ExecStderr::Log;
    /// Whether the program has a descriptor on which it notes something for the access log.
    exec_notes: bool, false;
    /// What it may note, there and by records.
    exec_notes_limit: notes::Limit, notes::Limit::DEFAULT;
    /// Resource limits of the program.
    exec_limit: Rc<[ExecLimit<C::Template>]>, Rc::from([]);
    /// How long a program that clients share outlives the last of them, in milliseconds.
    exec_linger: u64, 0;
    /// Whether a POST starts a program that clients share, with its body as the first message, and nobody else does.
    exec_request: bool, false;
    /// Programs that each worker starts ahead of their clients.
    exec_pool: u64, 0;
    /// Whether the name of the client's address is looked up.
    exec_remote_host: bool, false;
    /// Whether the program runs on a pseudo-terminal.
    exec_pty: bool, false;
    /// Which size a terminal has that several clients share.
    exec_pty_size: SizePolicy, SizePolicy::Smallest;
    /// How long a start may take, in milliseconds; 0 for no limit.
    exec_start_timeout: u64, 10_000;
    /// Whom programs run as; none for the user of the workers.
    exec_user: Option<C::User>, None;
    /// How long a CGI program may take for the header of its response, in milliseconds; 0 for ever.
    cgi_timeout: u64, 60_000;
    /// How the program is stopped after the client has gone.
    exec_stop: Ladder, Ladder::default();
    /// How long a server of a service may take to accept the connection, TLS included, in milliseconds; 0 for no limit.
    tcp_connect_timeout: u64, 60_000;
    /// How long a service may take nothing of what waits for it, in milliseconds; 0 for ever.
    tcp_send_timeout: u64, 60_000;
    /// Octets of one read from a service at most, and so of one message.
    tcp_buffer_size: u64, 16 << 10;
    /// Octets of the client that are read in a second, 0 for no limit.
    tcp_upload_rate: Amount<C::Template>, Amount::Fixed(0);
    /// Octets of the service that are read in a second, 0 for no limit.
    tcp_download_rate: Amount<C::Template>, Amount::Fixed(0);
    /// The type of the messages that a service's octets become.
    tcp_format: MessageKind, MessageKind::Binary;
    /// The header that tells a service of the client.
    tcp_proxy_protocol: Option<proxy_protocol::Version>, None;
    /// Servers that are tried for one client, 0 for all of them.
    tcp_next_upstream_tries: u64, 0;
    /// How long servers are tried one after the other, in milliseconds; 0 for no limit.
    tcp_next_upstream_timeout: u64, 0;
    /// The address of this machine that connections come from; none for the one that the system chooses.
    tcp_bind: Option<C::Template>, None;
    /// Where an address with variables may lead; not looked at where this was not said.
    tcp_allow: Rc<[allow::Rule]>, Rc::from([]);
    /// The file or directory behind `$websocket_tcp_target`.
    tcp_tokens: Option<Rc<Tokens>>, None;
    /// Whether the handshake is answered before the service is connected.
    tcp_accept: bool, false;
    /// Whether the connection to a service is TLS.
    tcp_ssl: bool, false;
    /// The name that a service's certificate must have, and that it is asked for; none for the one in its address.
    tcp_ssl_name: Option<C::Template>, None;
    /// Whether a service's certificate is verified.
    tcp_ssl_verify: bool, false;
    /// The file of the certificates that are trusted.
    tcp_ssl_trusted_certificate: Rc<[u8]>, Rc::from([]);
    /// The file of the certificate that a service is shown; empty for none.
    tcp_ssl_certificate: Rc<[u8]>, Rc::from([]);
    /// The file of its key.
    tcp_ssl_certificate_key: Rc<[u8]>, Rc::from([]);
    /// The file of the certificates that are revoked; empty for none.
    tcp_ssl_crl: Rc<[u8]>, Rc::from([]);
    /// Versions of TLS that are spoken.
    tcp_ssl_protocols: TlsVersions, TlsVersions::default();
    /// Ciphers up to TLS 1.2, as OpenSSL lists them.
    tcp_ssl_ciphers: Rc<[u8]>, Rc::from(*b"DEFAULT");
    /// Octets of shared memory for all channels; only known at the level of `http`.
    channel_zone: u64, 32 << 20;
    /// The namespace of the ids.
    channel_group: Option<C::Template>, None;
    /// What the group may have.
    channel_group_limits: GroupLimits<C::Template>, GroupLimits::default();
    /// Who a subscriber is; none where nobody is told.
    channel_presence: Option<C::Template>, None;
    /// What is kept of the messages that are published here.
    channel_history: History<C::Template>, History::default();
    /// Where a subscriber without a position begins.
    channel_start: Start, Start::Newest;
    /// How channels may be subscribed to.
    channel_transports: Transports, Transports::default();
    /// What follows each message of a raw subscriber.
    channel_separator: Rc<[u8]>, Rc::from(*b"\n");
    /// What is done with a subscriber that cannot be told of the messages it lost.
    channel_lag: ChannelLag, ChannelLag::Close;
    /// How many messages a subscriber gets in a time; none for all of them.
    channel_rate: Option<Rate>, None;
    /// What becomes of messages before they are sent; none where they are sent as they are.
    channel_message_template: Option<MessageTemplate<C::Template>>, None;
    /// The name of the event of messages that were published without one; empty for none.
    channel_eventsource_event: Rc<[u8]>, Rc::from([]);
    /// The name of the event that EventSources get in a silence; empty for none.
    channel_eventsource_ping_event: Rc<[u8]>, Rc::from([]);
    /// The data of that event.
    channel_eventsource_ping_data: Option<Rc<[u8]>>, None;
    /// The comment that EventSources get in a silence.
    channel_eventsource_ping_comment: Rc<[u8]>, Rc::from([]);
    /// What the response to a long-poll or a poll has.
    channel_longpoll: ChannelLongPoll, ChannelLongPoll::Single;
    /// A message of the client that is answered at once, and that nobody else gets, and the answer.
    client_heartbeat: Option<(Rc<str>, Rc<str>)>, None;
    /// What separates the ids in one value; none where a value is one id.
    channel_split: Option<Rc<[u8]>>, None;
    /// How a subscriber is told which channel a message is from; none where it is not.
    channel_tell_id: Option<Naming>, None;
    /// Whether channels may be subscribed to that nobody has published to.
    channel_create: bool, true;
    /// Whether clients may delete channels; none where that depends on what else they may do.
    channel_delete: Option<bool>, None;
    /// Subscribers of one channel over all workers, 0 for no limit.
    channel_max_subscribers: u64, 0;
    /// Channels that a client may subscribe and publish to by their names; none but those that the location has.
    channel_names: Rc<[NameRule<C>]>, Rc::from([]);
    /// Channels that one client may have subscribed to by their names at once.
    channel_max_subscriptions: u64, 64;
    /// Octets of one id.
    channel_max_id_length: u64, 1024;
    /// Which location is asked about each message before it is published.
    channel_publish_request: Option<C::Template>, None;
    /// Which location is asked before somebody subscribes.
    channel_join_request: Option<C::Template>, None;
    /// Which location is told that a subscriber has gone.
    channel_leave_request: Option<C::Template>, None;
    /// The engine that has the channels; none where this machine has them alone.
    channel_redis: Engine, None;
    /// The file whose first line is the engine's password.
    channel_redis_password_file: Option<Rc<[u8]>>, None;
    /// The user of the Sentinels.
    channel_redis_sentinel_user: Option<String>, None;
    /// The file whose first line is the Sentinels' password.
    channel_redis_sentinel_password_file: Option<Rc<[u8]>>, None;
    /// What begins the names of all keys and Pub/Sub channels in the engine.
    channel_redis_prefix: Rc<[u8]>, Rc::from(REDIS_PREFIX);
    /// How long a connection to the engine may take, in milliseconds.
    channel_redis_connect_timeout: u64, 5_000;
    /// How long an answer of the engine may take, in milliseconds.
    channel_redis_timeout: u64, 5_000;
    /// Commands of one worker that may wait for answers.
    channel_redis_max_pending: u64, 1024;
    /// How many replicas are to have a publication before it is acknowledged.
    channel_redis_replicas: u64, 0;
    /// Whether the engine's certificate is verified.
    channel_redis_ssl_verify: bool, false;
    /// The name that the engine's certificate must have, and that it is asked for; none for the one in its address.
    channel_redis_ssl_name: Option<Rc<[u8]>>, None;
    /// The file of the certificates of engines that are trusted.
    channel_redis_ssl_trusted_certificate: Rc<[u8]>, Rc::from([]);
    /// The file of the certificate that is shown to the engine.
    channel_redis_ssl_certificate: Rc<[u8]>, Rc::from([]);
    /// The file of its key.
    channel_redis_ssl_certificate_key: Rc<[u8]>, Rc::from([]);
    /// The channel that is told of what happens to the others.
    channel_events: Option<ChannelEvents<C::Template>>, None;
}
