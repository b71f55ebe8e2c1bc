// SPDX-License-Identifier: Apache-2.0

//! The table of directives, read by a compiler that knows no nginx.

use super::{
    Amount, Cgi, Compiler, EndpointSettings, EnvEntry, MessageTemplate, OriginRule, RecordingForm, Refused, Settings,
    Table, Template,
};
use crate::exec::framing::Format;
use crate::status::StatusForm;

/// Text in which "$" makes a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Text(Vec<u8>);

impl Template for Text {
    fn constant(&self) -> Option<&[u8]> {
        (!self.0.contains(&b'$')).then_some(&self.0)
    }
}

struct Plain;

impl Compiler for Plain {
    type Template = Text;
    type Regex = String;
    type Service = Text;
    type Tls = ();
    type User = String;

    fn compile(&mut self, argument: &[u8]) -> Result<Text, Refused> {
        Ok(Text(argument.to_vec()))
    }

    fn regex(&mut self, pattern: &[u8], _: bool) -> Result<String, Refused> {
        match pattern {
            b"(" => Err(Refused::value(pattern, "a closing parenthesis")),
            _ => Ok(String::from_utf8_lossy(pattern).into_owned()),
        }
    }

    fn service(&mut self, address: &[u8]) -> Result<Text, Refused> {
        Ok(Text(address.to_vec()))
    }

    fn path(&mut self, argument: &[u8]) -> Result<Vec<u8>, Refused> {
        Ok([b"/conf/", argument].concat())
    }

    fn directory(&mut self, argument: &[u8]) -> Result<Vec<u8>, Refused> {
        match argument {
            b"/none/" => Err(Refused::value(argument, "a directory")),
            [b'/', ..] => Ok(argument.to_vec()),
            _ => Ok([b"/prefix/", argument].concat()),
        }
    }

    fn user(&mut self, name: &[u8], group: Option<&[u8]>) -> Result<String, Refused> {
        match name {
            b"nosuch" => Err(Refused::value(name, "a user that is there")),
            _ => Ok(String::from_utf8_lossy(&[name, group.unwrap_or_default()].join(&b':')).into_owned()),
        }
    }
}

fn read(settings: &mut Settings<Plain>, line: &[&str]) -> Result<(), Refused> {
    let (name, arguments) = line.split_first().unwrap();
    let row = Table::<Plain>::ROWS.iter().find(|row| row.name.to_str() == Ok(name)).unwrap();
    let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
    (row.read)(settings, &mut Plain, &arguments)
}

fn of(lines: &[&[&str]]) -> Settings<Plain> {
    let mut settings = Settings::default();
    for line in lines {
        read(&mut settings, line).unwrap();
    }
    settings
}

fn refused(lines: &[&[&str]]) -> Refused {
    let (last, before) = lines.split_last().unwrap();
    read(&mut of(before), last).unwrap_err()
}

#[test]
fn names_are_told_once() {
    let mut names: Vec<_> = Table::<Plain>::ROWS.iter().map(|row| row.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(names.iter().all(|name| name.to_bytes().starts_with(b"websocket_")));
}

#[test]
fn defaults() {
    let settings = of(&[]);
    assert_eq!((settings.max_message_size(), settings.max_frame_size()), (1 << 20, 0));
    assert_eq!((settings.ping_interval(), settings.ping_timeout(), settings.idle_timeout()), (30_000, 10_000, 0));
    assert_eq!((settings.close_timeout(), settings.send_timeout(), settings.send_buffer()), (5_000, 60_000, 65_536));
    assert_eq!((settings.exec_format(), settings.exec_max()), (Format::Lines, 1024));
    let notes = settings.exec_notes_limit();
    assert_eq!((settings.exec_notes(), notes.number, notes.size), (false, 32, 4_096));
    assert_eq!((settings.exec_stop().term_ms, settings.exec_stop().kill_ms), (100, 5_000));
    assert!(matches!(*settings.origin(), [OriginRule::Same]));
    assert_eq!(of(&[&["websocket_tcp", "a:1"]]).max_message_size(), 0, "nothing of a message is kept");
    let limited = of(&[&["websocket_tcp", "a:1"], &["websocket_max_message_size", "1k"]]);
    assert_eq!(limited.max_message_size(), 1024);
    assert!(settings.endpoint.is_none());
}

#[test]
fn a_level_takes_from_above_what_it_does_not_say() {
    let above = of(&[&["websocket_close_timeout", "1s"], &["websocket_drain", "2s"], &["websocket_exec", "/bin/cat"]]);
    let mut here = of(&[&["websocket_drain", "3s"]]);
    here.inherit(&above);
    assert_eq!((here.close_timeout(), here.drain(), here.send_timeout()), (1_000, 3_000, 60_000));
    assert!(here.endpoint.is_none(), "an endpoint is of its location alone");
}

#[test]
fn a_block_inside_a_location_takes_what_answers_its_requests() {
    for line in [
        &["websocket_exec", "/bin/cat"][..],
        &["websocket_exec_dir", "/srv"],
        &["websocket_channel", "a"],
        &["websocket_tcp", "a:1"],
        &["websocket_status", "text"],
        &["websocket_channel_group_info"],
        &["websocket_cgi", "/bin/date"],
        &["websocket_cgi_dir", "/srv"],
    ] {
        let mut around = of(&[line]);
        around.key = 7;
        let mut here = of(&[]);
        here.inherit_content(&around);
        assert_eq!((here.content(), here.key, here.status), (Some(line[0]), 7, around.status), "{line:?}");
        for own in [&["websocket_exec", "/bin/echo"][..], &["websocket_status"], &["websocket_channel_group_info"]] {
            let mut here = of(&[own]);
            here.inherit_content(&around);
            assert_eq!((here.content(), here.key), (Some(own[0]), 0), "{line:?}");
        }
    }
    let mut here = of(&[]);
    here.inherit_content(&of(&[&["websocket_exec", "/bin/cat", "x"], &["websocket_channel", "a"]]));
    assert!(matches!(here.endpoint, Some(EndpointSettings::Shared(shared)) if shared.program.len() == 2));
}

#[test]
fn a_block_has_the_pool_of_the_location_around_it() {
    let mut around = of(&[&["websocket_exec", "/bin/cat"], &["websocket_exec_pool", "2"]]);
    around.pool = 9;
    let mut here = of(&[]);
    here.inherit_content(&around);
    assert_eq!(here.pool, 9);
    for line in [
        &["websocket_exec_env", "A=1"][..],
        &["websocket_exec_pool", "0"],
        &["websocket_exec_pty", "on"],
        &["websocket_exec_notes", "on"],
    ] {
        assert!(of(&[line]).says_how_to_start(), "{line:?}");
    }
    assert!(!of(&[&["websocket_exec_format", "bytes"], &["websocket_exec_max", "1"]]).says_how_to_start());
}

#[test]
fn a_directive_stands_once_a_level() {
    for line in [
        &["websocket_close_timeout", "1s"][..],
        &["websocket_exec", "/bin/cat"],
        &["websocket_origin", "any"],
        &["websocket_exec_limit", "cpu=1"],
    ] {
        assert_eq!(refused(&[line, line]), Refused::Duplicate, "{line:?}");
    }
    // But lines of the environment add up, as nginx's own do.
    let settings = of(&[&["websocket_exec_env", "A=1", "B"], &["websocket_exec_env", "C=$x"]]);
    let entries = settings.exec_env();
    assert!(matches!(&entries[0], EnvEntry::Set(name, Text(value)) if name == b"A" && value == b"1"));
    assert!(matches!(&entries[1], EnvEntry::Pass(name) if name == b"B"));
    assert!(matches!(&entries[2], EnvEntry::Set(name, Text(value)) if name == b"C" && value == b"$x"));
}

#[test]
fn a_program_can_be_shared_by_the_clients_of_a_channel() {
    let (program, channel) = (&["websocket_exec", "/bin/cat", "x"][..], &["websocket_channel", "$arg_id"][..]);
    for lines in [[program, channel], [channel, program]] {
        let Some(EndpointSettings::Shared(shared)) = of(&lines).endpoint else { panic!("{lines:?}") };
        assert_eq!((shared.program.len(), shared.channel.ids.len()), (2, 1));
        for line in lines {
            assert_eq!(refused(&[lines[0], lines[1], line]), Refused::Duplicate);
        }
        let other = &["websocket_tcp", "a:1"];
        assert_eq!(refused(&[lines[0], lines[1], other]), Refused::Conflict("websocket_exec"));
        assert_eq!(refused(&[other, lines[0]]), Refused::Conflict("websocket_tcp"));
    }
    for channel in [&["websocket_channel", "a", "b"][..], &["websocket_channel", "a", "mode=pubsub"]] {
        assert!(matches!(refused(&[program, channel]), Refused::Usage(_)));
        assert!(matches!(refused(&[channel, program]), Refused::Usage(_)));
    }
    let settings = of(&[&["websocket_exec_linger", "2s"]]);
    assert_eq!((settings.exec_linger(), of(&[]).exec_linger()), (2000, 0));
    let (program, channel) = (&["websocket_exec", "/bin/cat"][..], &["websocket_channel", "a"][..]);
    let (post, off) = (&["websocket_exec_request", "post"][..], &["websocket_exec_request", "off"][..]);
    for (lines, requested) in [
        (&[post, program, channel][..], true),
        (&[program, channel], false),
        (&[off, program, channel], false),
        (&[post, program], false),
        (&[post, channel], false),
    ] {
        assert_eq!(of(lines).has_requested_runs(), requested, "{lines:?}");
    }
    assert_eq!(refused(&[&["websocket_exec_request", "get"]]), Refused::value(b"get", "\"off\" or \"post\""));
}

#[test]
fn the_status_is_alone_in_its_location() {
    assert_eq!(of(&[&["websocket_status"]]).status, Some(StatusForm::Json));
    for (name, form) in [("json", StatusForm::Json), ("prometheus", StatusForm::Prometheus), ("text", StatusForm::Text)]
    {
        assert_eq!(of(&[&["websocket_status", name]]).status, Some(form));
    }
    let expected = "\"json\", \"prometheus\" or \"text\"";
    assert_eq!(refused(&[&["websocket_status", "xml"]]), Refused::value(b"xml", expected));
    assert_eq!(refused(&[&["websocket_status"], &["websocket_status"]]), Refused::Duplicate);
    for endpoint in [&["websocket_exec", "/bin/cat"], &["websocket_exec_dir", "/srv"], &["websocket_tcp", "a:1"]] {
        assert_eq!(refused(&[&["websocket_status"], endpoint]), Refused::Conflict("websocket_status"));
        assert_eq!(refused(&[endpoint, &["websocket_status"]]), Refused::Conflict(endpoint[0]));
    }
    let mut here = of(&[]);
    here.inherit(&of(&[&["websocket_status"]]));
    assert_eq!(here.status, None);
}

#[test]
fn groups_of_channels() {
    let limits = of(&[&["websocket_channel_group_limits", "bytes=1m", "channels=$x"]]).channel_group_limits();
    assert!(matches!(limits.bytes, Amount::Fixed(1_048_576)));
    assert!(matches!(limits.channels, Amount::Template(_)));
    assert!(matches!(limits.messages, Amount::Fixed(0)));
    let expected = "\"channels=number\" or \"subscribers=number\" or \"messages=number\" or \"bytes=size\"";
    let line = &["websocket_channel_group_limits", "octets=1"][..];
    assert_eq!(refused(&[line]), Refused::value(b"octets=1", expected));
    let info = &["websocket_channel_group_info"][..];
    assert!(of(&[info]).group_info);
    assert_eq!(refused(&[info, info]), Refused::Duplicate);
    for other in [&["websocket_channel", "a"][..], &["websocket_status"], &["websocket_tcp", "a:1"]] {
        assert_eq!(refused(&[info, other]), Refused::Conflict("websocket_channel_group_info"));
        assert_eq!(refused(&[other, info]), Refused::Conflict(other[0]));
    }
    let mut here = of(&[]);
    here.inherit(&of(&[info]));
    assert!(!here.group_info);
}

#[test]
fn a_template_without_variables_of_the_request_is_the_same_for_all() {
    let template = |text: &str| of(&[&["websocket_channel_message_template", text]]).channel_message_template();
    assert!(matches!(template("$websocket_channel_id: $websocket_message"), Some(MessageTemplate::Fixed(_))));
    assert!(matches!(template("$x: $websocket_message"), Some(MessageTemplate::OfRequest { .. })));
    assert!(template("off").is_none());
}

#[test]
fn one_endpoint_a_location() {
    let settings = of(&[&["websocket_exec", "/bin/cat", "-n"]]);
    assert!(matches!(&settings.endpoint, Some(EndpointSettings::Exec(words)) if words.len() == 2));
    assert_eq!(
        refused(&[&["websocket_exec", "/bin/cat"], &["websocket_exec_dir", "/srv"]]),
        Refused::Conflict("websocket_exec")
    );
    assert!(matches!(of(&[&["websocket_tcp", "$x"]]).endpoint, Some(EndpointSettings::Tcp(_))));
    assert_eq!(refused(&[&["websocket_tcp", "a:1"], &["websocket_tcp", "b:1"]]), Refused::Duplicate);
    assert_eq!(
        refused(&[&["websocket_exec", "/bin/cat"], &["websocket_tcp", "a:1"]]),
        Refused::Conflict("websocket_exec")
    );
    assert_eq!(
        refused(&[&["websocket_tcp", "a:1"], &["websocket_exec", "/bin/cat"]]),
        Refused::Conflict("websocket_tcp")
    );
    for line in [
        &["websocket_exec", ""][..],
        &["websocket_exec_dir", ""],
        &["websocket_exec_dir", "srv"],
        &["websocket_tcp", ""],
    ] {
        assert!(matches!(refused(&[line]), Refused::Value { .. }), "{line:?}");
    }
}

#[test]
fn a_cgi_program_beside_an_endpoint() {
    let (program, directory) = (&["websocket_cgi", "/bin/date", "-u"][..], &["websocket_cgi_dir", "/srv"][..]);
    assert!(matches!(of(&[program]).cgi, Some(Cgi::Program(words)) if words.len() == 2));
    assert!(matches!(of(&[directory]).cgi, Some(Cgi::Directory(_))));
    assert_eq!((of(&[program]).content(), of(&[program]).counted_as()), (Some("websocket_cgi"), Some("cgi")));
    assert_eq!((of(&[directory]).content(), of(&[directory]).has_program()), (Some("websocket_cgi_dir"), true));
    for (endpoint, name) in [
        (&["websocket_exec", "/bin/cat"], "exec"),
        (&["websocket_exec_dir", "/srv"], "exec"),
        (&["websocket_tcp", "a:1"], "tcp"),
    ] {
        for lines in [[endpoint, program], [program, endpoint], [directory, endpoint], [endpoint, directory]] {
            let settings = of(&lines);
            assert!(settings.cgi.is_some() && settings.endpoint.is_some(), "{lines:?}");
            assert_eq!((settings.content(), settings.counted_as()), (Some(endpoint[0]), Some(name)), "{lines:?}");
        }
        assert_eq!(refused(&[program, endpoint, endpoint]), Refused::Duplicate);
    }
    for other in [
        &["websocket_channel", "a"][..],
        &["websocket_channel", "a", "mode=pub"],
        &["websocket_status"],
        &["websocket_channel_group_info"],
    ] {
        assert_eq!(refused(&[program, other]), Refused::Conflict("websocket_cgi"), "{other:?}");
        assert_eq!(refused(&[directory, other]), Refused::Conflict("websocket_cgi_dir"), "{other:?}");
        assert_eq!(refused(&[other, program]), Refused::Conflict(other[0]), "{other:?}");
    }
    let (exec, channel) = (&["websocket_exec", "/bin/cat"][..], &["websocket_channel", "a"][..]);
    assert_eq!(refused(&[exec, channel, program]), Refused::Conflict("websocket_channel"));
    assert_eq!(refused(&[exec, program, channel]), Refused::Conflict("websocket_cgi"));
    assert_eq!(refused(&[program, program]), Refused::Duplicate);
    assert_eq!(refused(&[program, directory]), Refused::Conflict("websocket_cgi"));
    for line in [
        &["websocket_cgi", ""][..],
        &["websocket_cgi", "./date"],
        &["websocket_cgi", "off"],
        &["websocket_cgi_dir", ""],
        &["websocket_cgi_dir", "srv"],
        &["websocket_cgi_dir", "off"],
        &["websocket_cgi_timeout", "soon"],
    ] {
        assert!(matches!(refused(&[line]), Refused::Value { .. } | Refused::Wrong { .. }), "{line:?}");
    }
    assert_eq!((of(&[]).cgi_timeout(), of(&[&["websocket_cgi_timeout", "5"]]).cgi_timeout()), (60_000, 5_000));
    let mut here = of(&[]);
    here.inherit(&of(&[program]));
    assert!(here.cgi.is_none(), "it is of its location alone");
    here.inherit_content(&of(&[exec, program]));
    assert!(here.cgi.is_some() && here.endpoint.is_some());
}

#[test]
fn origins() {
    let settings = of(&[&["websocket_origin", "same", "https://a.example", "*.b.example", "~^c$", "$d"]]);
    let rules = settings.origin();
    assert!(matches!(
        &*rules,
        [
            OriginRule::Same,
            OriginRule::Pattern(_),
            OriginRule::Pattern(_),
            OriginRule::Regex(_),
            OriginRule::Template(_)
        ]
    ));
    for line in [&["websocket_origin", "any", "same"][..], &["websocket_origin", "~("], &["websocket_origin", "a b"]] {
        assert!(matches!(refused(&[line]), Refused::Usage(_) | Refused::Value { .. }), "{line:?}");
    }
}

#[test]
fn values_on_both_sides_of_their_limits() {
    for (line, accepted) in [
        (&["websocket_send_buffer", "1"][..], true),
        (&["websocket_send_buffer", "0"], false),
        (&["websocket_deflate_level", "9"], true),
        (&["websocket_deflate_level", "10"], false),
        (&["websocket_deflate_level", "0"], false),
        (&["websocket_deflate_window", "9"], true),
        (&["websocket_deflate_window", "8"], false),
        (&["websocket_deflate_window", "16"], false),
        (&["websocket_deflate_context", "dedicated"], true),
        (&["websocket_deflate_context", "shared"], false),
        (&["websocket_exec_max", "4294967295"], true),
        (&["websocket_exec_max", "4294967296"], false),
        (&["websocket_exec_stop", "1s", "1s"], true),
        (&["websocket_exec_stop", "1s", "999ms"], false),
        (&["websocket_exec_stop", "1s"], false),
        (&["websocket_exec_stop", "1s", "2s", "signal=INT"], true),
        (&["websocket_exec_stop", "1s", "2s", "daemons=keep", "signal=TERM"], true),
        (&["websocket_exec_stop", "1s", "2s", "daemons=keep", "daemons=stop"], false),
        (&["websocket_exec_stop", "1s", "2s", "signal=KILL"], false),
        (&["websocket_exec_stop", "1s", "2s", "signal=int"], false),
        (&["websocket_exec_stop", "1s", "2s", "daemons=maybe"], false),
        (&["websocket_exec_stop", "1s", "2s", "TERM"], false),
        (&["websocket_exec_remote_host", "off"], true),
        (&["websocket_exec_remote_host", "yes"], false),
        (&["websocket_exec_pool", "0"], true),
        (&["websocket_exec_pool", "1024"], true),
        (&["websocket_exec_pool", "1025"], false),
        (&["websocket_exec_pool", "on"], false),
        (&["websocket_exec_notes", "on"], true),
        (&["websocket_exec_notes", "1"], false),
        (&["websocket_exec_notes_limit", "1", "1"], true),
        (&["websocket_exec_notes_limit", "1024", "64k"], true),
        (&["websocket_exec_notes_limit", "16"], true),
        (&["websocket_exec_notes_limit", "0"], false),
        (&["websocket_exec_notes_limit", "1025"], false),
        (&["websocket_exec_notes_limit", "1", "0"], false),
        (&["websocket_exec_notes_limit", "1", "65537"], false),
        (&["websocket_exec_notes_limit", "off"], false),
        (&["websocket_exec_start_timeout", "0"], true),
        (&["websocket_exec_start_timeout", "5"], true),
        (&["websocket_exec_start_timeout", "soon"], false),
        (&["websocket_exec_user", "games"], true),
        (&["websocket_exec_user", "games", "daemon"], true),
        (&["websocket_exec_user", "nosuch"], false),
        (&["websocket_exec_user", "off"], false),
        (&["websocket_exec_user", ""], false),
        (&["websocket_exec_user", "games", ""], false),
        (&["websocket_exec_limit", "nofile=10", "as=1g", "cpu=$x"], true),
        (&["websocket_exec_limit", "nofile=1k"], false),
        (&["websocket_exec_limit", "nofile"], false),
        (&["websocket_exec_limit", "files=1"], false),
        (&["websocket_exec_limit", "cpu=1", "cpu=2"], false),
        (&["websocket_protocols", "chat", "superchat"], true),
        (&["websocket_protocols", "chat", "chat"], false),
        (&["websocket_protocols", "a b"], false),
        (&["websocket_exec_env", "1A=x"], false),
        (&["websocket_exec_cwd", ""], false),
        (&["websocket_exec_format", "records"], false),
        (&["websocket_exec_stderr", "file"], false),
        (&["websocket_exec_pty_size", "smallest"], true),
        (&["websocket_exec_pty_size", "writer"], true),
        (&["websocket_exec_pty_size", "80x24"], false),
        (&["websocket_console", "yes"], false),
        (&["websocket_record_queue", "64k"], true),
        (&["websocket_record_queue", "65535"], false),
        (&["websocket_record_queue", "64g"], true),
        (&["websocket_record_queue", "65g"], false),
        (&["websocket_record_queue", "off"], false),
        (&["websocket_channel_zone", "1m"], true),
        (&["websocket_channel_zone", "1023k"], false),
        (&["websocket_channel_zone", "31g"], true),
        (&["websocket_channel_zone", "32g"], false),
        (&["websocket_channel_group_limits", "channels=4294967295"], true),
        (&["websocket_channel_group_limits", "channels=4294967296"], false),
        (&["websocket_channel_group_limits", "subscribers=1k"], false),
        (&["websocket_channel_group_limits", "messages="], false),
        (&["websocket_channel_group_limits", "messages=1", "messages=1"], false),
        (&["websocket_channel_group_limits", "bytes=1k"], true),
        (&["websocket_channel_group_limits", "bytes=-1"], false),
        (&["websocket_channel_rate", "1/s"], true),
        (&["websocket_channel_rate", "1000000/s", "burst=1000000"], true),
        (&["websocket_channel_rate", "0/s"], false),
        (&["websocket_channel_rate", "1000001/s"], false),
        (&["websocket_channel_rate", "1/s", "burst=0"], false),
        (&["websocket_channel_rate", "burst=1"], false),
        (&["websocket_channel_events", "a", "join", "leave", "publish", "delete", "grace=1h"], true),
        (&["websocket_channel_events", "a", "grace=3601s"], false),
        (&["websocket_channel_events", "a", "publish", "grace=1s"], false),
        (&["websocket_channel_events", "a", "publish", "grace=0"], true),
        (&["websocket_channel_events", "a", "join", "join"], false),
        (&["websocket_channel_events", "join"], false),
        (&["websocket_channel_events", "off"], true),
        (&["websocket_channel_message_template", "{\"a\":$websocket_message}"], true),
        (&["websocket_channel_message_template", "{\"a\":$websocket_message"], false),
        (&["websocket_channel_message_template", "{\"a\":$websocket_message", "text"], true),
        (&["websocket_channel_message_template", "$x([\"$y\"])"], true),
        (&["websocket_channel_message_template", "$websocket_message([])"], false),
        (&["websocket_channel_message_template", "$"], false),
        (&["websocket_channel_message_template", ""], false),
        (&["websocket_channel_eventsource_event", "gap"], false),
        (&["websocket_channel_eventsource_event", "a b"], true),
        (&["websocket_channel_eventsource_ping_data", "a\nb"], false),
        (&["websocket_client_heartbeat", "a", "b"], true),
        (&["websocket_client_heartbeat", "a"], false),
        (&["websocket_client_heartbeat", "a", ""], false),
        (&["websocket_tcp_buffer_size", "1"], true),
        (&["websocket_tcp_buffer_size", "0"], false),
        (&["websocket_tcp_buffer_size", "1g"], true),
        (&["websocket_tcp_buffer_size", "2g"], false),
        (&["websocket_tcp_upload_rate", "0"], true),
        (&["websocket_tcp_upload_rate", "1"], true),
        (&["websocket_tcp_upload_rate", "64k"], true),
        (&["websocket_tcp_upload_rate", "$rate"], true),
        (&["websocket_tcp_upload_rate", "64k/s"], false),
        (&["websocket_tcp_upload_rate", "off"], false),
        (&["websocket_tcp_upload_rate", ""], false),
        (&["websocket_tcp_download_rate", "1g"], true),
        (&["websocket_tcp_download_rate", "-1"], false),
        (&["websocket_tcp_format", "text"], true),
        (&["websocket_tcp_format", "lines"], false),
        (&["websocket_tcp_proxy_protocol", "v2"], true),
        (&["websocket_tcp_proxy_protocol", "on"], false),
        (&["websocket_tcp_ssl", "yes"], false),
        (&["websocket_tcp_ssl_name", ""], false),
        (&["websocket_tcp_ssl_trusted_certificate", ""], false),
        (&["websocket_tcp_ssl_certificate", "client.pem"], true),
        (&["websocket_tcp_ssl_certificate", "$arg_file"], false),
        (&["websocket_tcp_ssl_certificate_key", "off"], false),
        (&["websocket_tcp_ssl_crl", ""], false),
        (&["websocket_tcp_ssl_protocols", "TLSv1.2", "TLSv1.3"], true),
        (&["websocket_tcp_ssl_protocols", "TLSv1.3", "TLSv1.3"], false),
        (&["websocket_tcp_ssl_protocols", "SSLv3"], false),
        (&["websocket_tcp_ssl_ciphers", "HIGH:!aNULL"], true),
        (&["websocket_tcp_ssl_ciphers", ""], false),
        (&["websocket_tcp_next_upstream_timeout", "2s"], true),
        (&["websocket_tcp_next_upstream_timeout", "soon"], false),
        (&["websocket_tcp_bind", "127.0.0.2"], true),
        (&["websocket_tcp_bind", "127.0.0.2:1000"], true),
        (&["websocket_tcp_bind", "[::1]:1000"], true),
        (&["websocket_tcp_bind", "::1"], true),
        (&["websocket_tcp_bind", "$remote_addr"], true),
        (&["websocket_tcp_bind", "off"], true),
        (&["websocket_tcp_bind", "localhost"], false),
        (&["websocket_tcp_bind", "127.0.0.1:70000"], false),
    ] {
        assert_eq!(read(&mut Settings::default(), line).is_ok(), accepted, "{line:?}");
    }
}

#[test]
fn recordings() {
    let read = |words: &[&str]| of(&[words]).recording().unwrap();
    let plain = read(&["websocket_record", "/rec/$id.json"]);
    assert_eq!((&plain.directory[..], &plain.file.0[..]), (&b"/rec/"[..], &b"$id.json"[..]));
    assert_eq!((plain.form, plain.buffer), (RecordingForm::Usual, 1 << 20));
    let relative = read(&["websocket_record", "$file", "format=novnc", "buffer=4k"]);
    assert_eq!((&relative.directory[..], &relative.file.0[..]), (&b"/prefix/"[..], &b"$file"[..]));
    assert_eq!((relative.form, relative.buffer), (RecordingForm::Novnc, 4 << 10));
    let fixed = read(&["websocket_record", "/rec/a.json", "buffer=1g", "format=json"]);
    assert_eq!((&fixed.directory[..], &fixed.file.0[..]), (&b"/rec/"[..], &b"a.json"[..]));
    assert_eq!((fixed.form, fixed.buffer), (RecordingForm::Json, 1 << 30));
    assert!(of(&[]).recording().is_none());
    let mut inner = of(&[&["websocket_record", "off"]]);
    inner.inherit(&of(&[&["websocket_record", "/rec/$id"]]));
    assert!(inner.recording().is_none(), "off is not inherited over");
    for words in [
        &[""][..],
        &["on"],
        &["OFF"],
        &["off", "buffer=4k"],
        &["buffer=4k"],
        &["/rec/"],
        &["/none/$id"],
        &["/rec/$a/../b"],
        &["/rec/$a//b"],
        &["/rec/$a/./b"],
        &["/rec/.."],
        &["/rec/$a/"],
        &["/rec/$a", "buffer=4095"],
        &["/rec/$a", "buffer=1025m"],
        &["/rec/$a", "buffer=0"],
        &["/rec/$a", "buffer="],
        &["/rec/$a", "buffer=4k", "buffer=4k"],
        &["/rec/$a", "format=cast"],
        &["/rec/$a", "format=json", "format=json"],
        &["/rec/$a", "json"],
    ] {
        let line: Vec<&str> = [&["websocket_record"], words].concat();
        assert!(matches!(refused(&[&line]), Refused::Value { .. } | Refused::Wrong { .. }), "{words:?}");
    }
    let twice = refused(&[&["websocket_record", "/rec/$a"], &["websocket_record", "off"]]);
    assert_eq!(twice, Refused::Duplicate);
}
