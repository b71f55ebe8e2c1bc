// SPDX-License-Identifier: Apache-2.0

//! What a group has and may have.

use super::InfoForm;
use crate::channel::store::{GroupInfo, GroupLimits, GroupUse};

impl InfoForm {
    /// A group in this form; a limit of 0 is none. Octets of messages stand where Nchan has its shared memory; nothing is
    /// on a disk.
    pub fn render_group(self, group: &GroupInfo) -> String {
        let GroupUse { channels, subscribers, messages, bytes } = group.used;
        let used = [channels.into(), subscribers.into(), messages.into(), bytes, 0];
        let GroupLimits { channels, subscribers, messages, bytes } = group.limits;
        let limits = [channels.into(), subscribers.into(), messages.into(), bytes, 0];
        match self {
            Self::Text => {
                let [channels, subscribers, messages, memory, disk] = used;
                format!(
                    "channels: {channels}\r\n\
                     subscribers: {subscribers}\r\n\
                     messages: {messages}\r\n\
                     shared memory used by messages: {memory} bytes\r\n\
                     disk space used by messages: {disk} bytes\r\n\
                     limits:\r\n{}\r\n",
                    lines(TITLES, limits, "\r\n", |name, limit| format!("  max {name}: {limit}")),
                )
            }
            Self::Json => format!(
                "{{\r\n{},\r\n  \"limits\": {{\r\n{}\r\n  }}\r\n}}",
                lines(NAMES, used, ",\r\n", |name, value| format!("  \"{name}\": {value}")),
                lines(NAMES, limits, ",\r\n", |name, value| format!("    \"{name}\": {value}")),
            ),
            Self::Xml => format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\r\n<group>\r\n{}\r\n  <limits>\r\n{}\r\n  </limits>\r\n</group>",
                lines(NAMES, used, "\r\n", |name, value| format!("  <{name}>{value}</{name}>")),
                lines(NAMES, limits, "\r\n", |name, value| format!("    <{name}>{value}</{name}>")),
            ),
            Self::Yaml => format!(
                "---\r\n{}\r\nlimits:\r\n{}\r\n\r\n",
                lines(NAMES, used, "\r\n", |name, value| format!("{name}: {value}")),
                lines(NAMES, limits, "\r\n", |name, value| format!("  {name}: {value}")),
            ),
        }
    }
}

const NAMES: [&str; 5] = ["channels", "subscribers", "messages", "messages_memory", "messages_disk"];

const TITLES: [&str; 5] = ["channels", "subscribers", "messages", "messages shared memory", "messages disk space"];

fn lines(names: [&str; 5], values: [u64; 5], between: &str, line: impl Fn(&str, u64) -> String) -> String {
    let lines: Vec<_> = names.into_iter().zip(values).map(|(name, value)| line(name, value)).collect();
    lines.join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nchans_bytes() {
        let group = GroupInfo {
            used: GroupUse { channels: 1, subscribers: 0, messages: 3, bytes: 15 },
            limits: GroupLimits { channels: 2, subscribers: 0, messages: 3, bytes: 1 << 40 },
        };
        let render = |form: InfoForm| form.render_group(&group).replace("\r\n", "|");
        assert_eq!(
            render(InfoForm::Text),
            "channels: 1|subscribers: 0|messages: 3|shared memory used by messages: 15 bytes|\
             disk space used by messages: 0 bytes|limits:|  max channels: 2|  max subscribers: 0|  max messages: 3|  \
             max messages shared memory: 1099511627776|  max messages disk space: 0|"
        );
        assert_eq!(
            render(InfoForm::Json),
            "{|  \"channels\": 1,|  \"subscribers\": 0,|  \"messages\": 3,|  \"messages_memory\": 15,|  \
             \"messages_disk\": 0,|  \"limits\": {|    \"channels\": 2,|    \"subscribers\": 0,|    \"messages\": 3,|    \
             \"messages_memory\": 1099511627776,|    \"messages_disk\": 0|  }|}"
        );
        assert_eq!(
            render(InfoForm::Xml),
            "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>|<group>|  <channels>1</channels>|  \
             <subscribers>0</subscribers>|  <messages>3</messages>|  <messages_memory>15</messages_memory>|  \
             <messages_disk>0</messages_disk>|  <limits>|    <channels>2</channels>|    <subscribers>0</subscribers>|    \
             <messages>3</messages>|    <messages_memory>1099511627776</messages_memory>|    \
             <messages_disk>0</messages_disk>|  </limits>|</group>"
        );
        assert_eq!(
            render(InfoForm::Yaml),
            "---|channels: 1|subscribers: 0|messages: 3|messages_memory: 15|messages_disk: 0|limits:|  channels: 2|  \
             subscribers: 0|  messages: 3|  messages_memory: 1099511627776|  messages_disk: 0||"
        );
    }
}
