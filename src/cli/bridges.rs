//! The flags of bridges: `--bridge` says where one goes, `--bridge-topic` what it carries.
//!
//! Each value is read by itself first; what both say together is checked when all are known.

use std::path::PathBuf;
use std::sync::Arc;

use crate::bridge::{Bridge, BridgedTopic, Direction, Topics};
use crate::config::{
    self, BRIDGE_KEEP_ALIVE_SECONDS, BRIDGE_MAX_INFLIGHT_311_DEFAULT, BRIDGE_TOPICS_MAX, BRIDGES_MAX, MAX_INFLIGHT,
    RECEIVE_MAXIMUM,
};
use crate::proto::{QoS, Version};

/// The port of MQTT.
const PORT_DEFAULT: u16 = 1883;

/// Longest name of a bridge, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// One `--bridge`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct BridgeArgument {
    name: Box<str>,
    host: Box<str>,
    port: u16,
    version: Version,
    client_id: Option<Box<str>>,
    keep_alive_seconds: u16,
    username: Option<Box<str>>,
    password_file: Option<PathBuf>,
    receive_maximum: Option<u16>,
    max_inflight: Option<u16>,
}

/// One `--bridge-topic`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TopicArgument {
    bridge: Box<str>,
    topic: BridgedTopic,
}

/// Reads `NAME=HOST:PORT[,key=value...]`.
pub(super) fn bridge(text: &str) -> Result<BridgeArgument, String> {
    let form = || "allowed is NAME=HOST[:PORT][,key=value...], such as up=broker.example:1883,user=edge".to_owned();
    let (name, rest) = text.split_once('=').ok_or_else(form)?;
    let mut words = rest.split(',');
    let (host, port) = words.next().and_then(host_and_port).ok_or_else(form)?;
    let mut argument = BridgeArgument {
        name: bridge_name(name)?,
        host,
        port,
        version: Version::V5,
        client_id: None,
        keep_alive_seconds: config::BRIDGE_KEEP_ALIVE_SECONDS_DEFAULT,
        username: None,
        password_file: None,
        receive_maximum: None,
        max_inflight: None,
    };
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(form)?;
        match key {
            "protocol" => argument.version = version(value)?,
            "client-id" if (1..=65_535).contains(&value.len()) => argument.client_id = Some(value.into()),
            "client-id" => return Err("client-id: allowed are 1 to 65535 bytes".to_owned()),
            "keep-alive" => {
                let seconds = value.parse().ok().filter(|seconds| BRIDGE_KEEP_ALIVE_SECONDS.contains(seconds));
                argument.keep_alive_seconds = seconds.ok_or("keep-alive: allowed are seconds from 5 to 65535")?;
            }
            "user" => argument.username = Some(value.into()),
            "password-file" => argument.password_file = Some(value.into()),
            "receive-maximum" => {
                let maximum = value.parse().ok().filter(|maximum| RECEIVE_MAXIMUM.contains(maximum));
                argument.receive_maximum = Some(maximum.ok_or("receive-maximum: allowed is 1 to 65535")?);
            }
            "max-inflight" => {
                let maximum = value.parse().ok().filter(|maximum| MAX_INFLIGHT.contains(maximum));
                argument.max_inflight = Some(maximum.ok_or("max-inflight: allowed is 1 to 65535")?);
            }
            _ => {
                return Err(format!(
                    "{key}: allowed are protocol, client-id, keep-alive, user, password-file, receive-maximum and max-inflight"
                ));
            }
        }
    }
    if argument.password_file.is_some() && argument.username.is_none() {
        return Err("password-file: allowed only with user".to_owned());
    }
    Ok(argument)
}

/// Reads `NAME=PATTERN[,out|in|both][,qos=0|1|2][,local=PREFIX][,remote=PREFIX]`.
pub(super) fn topic(text: &str) -> Result<TopicArgument, String> {
    let form = "allowed is NAME=PATTERN[,out|in|both][,qos=0|1|2][,local=PREFIX][,remote=PREFIX], such as up=sensors/#,out,qos=2";
    let (name, rest) = text.split_once('=').ok_or(form)?;
    let mut words = rest.split(',');
    let pattern = words.next().unwrap_or_default();
    let (mut direction, mut qos, mut local, mut remote) = (Direction::Out, QoS::ExactlyOnce, "", "");
    for word in words {
        match word.split_once('=') {
            None if word == "out" => direction = Direction::Out,
            None if word == "in" => direction = Direction::In,
            None if word == "both" => direction = Direction::Both,
            Some(("qos", value)) => {
                qos = value.parse().ok().and_then(QoS::from_bits).ok_or("qos: allowed is 0, 1 or 2")?;
            }
            Some(("local", prefix)) => local = prefix,
            Some(("remote", prefix)) => remote = prefix,
            None | Some(_) => return Err(form.to_owned()),
        }
    }
    let topic =
        BridgedTopic::new(pattern, direction, qos, local, remote).map_err(|fault| format!("{fault}; {form}"))?;
    Ok(TopicArgument { bridge: bridge_name(name)?, topic })
}

/// Puts together what the flags say. `max_inflight` is that of clients; `host_name` is asked for where a client id has to be made
/// of it.
pub(super) fn assemble(
    bridges: Vec<BridgeArgument>,
    mut topics: Vec<TopicArgument>,
    max_inflight: u16,
    host_name: impl Fn() -> String,
) -> Result<Vec<Arc<Bridge>>, String> {
    if bridges.len() > BRIDGES_MAX {
        return Err(format!("--bridge is given {} times; allowed is {BRIDGES_MAX} times", bridges.len()));
    }
    let mut assembled: Vec<Arc<Bridge>> = Vec::new();
    for bridge in bridges {
        let name = &bridge.name;
        if assembled.iter().any(|other| other.name == *name) {
            return Err(format!("--bridge {name} is given twice; allowed is one of each name"));
        }
        let own = topics.extract_if(.., |topic| topic.bridge == *name).map(|topic| topic.topic);
        let own: Vec<BridgedTopic> = own.collect();
        if own.is_empty() || own.len() > BRIDGE_TOPICS_MAX {
            return Err(format!(
                "--bridge {name} has {} topics; allowed are 1 to {BRIDGE_TOPICS_MAX} of --bridge-topic {name}=PATTERN",
                own.len()
            ));
        }
        assembled.push(Arc::new(bridge.into_bridge(own.into(), max_inflight, &host_name)?));
    }
    match topics.first() {
        None => Ok(assembled),
        Some(topic) => {
            let names: Vec<&str> = assembled.iter().map(|bridge| &*bridge.name).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Err(format!("--bridge-topic {}: no --bridge has that name; there are: {names}", topic.bridge))
        }
    }
}

impl BridgeArgument {
    fn into_bridge(self, topics: Topics, max_inflight: u16, host_name: impl Fn() -> String) -> Result<Bridge, String> {
        let password = match &self.password_file {
            None => None,
            Some(path) => {
                let read = std::fs::read(path);
                let text = read.map_err(|error| {
                    format!("--bridge {}: the password file {} cannot be read: {error}", self.name, path.display())
                })?;
                let text = text.strip_suffix(b"\n").unwrap_or(&text);
                if text.len() > usize::from(u16::MAX) {
                    return Err(format!("--bridge {}: the password is longer than 65535 bytes", self.name));
                }
                Some(text.into())
            }
        };
        let max_inflight = self.max_inflight.unwrap_or(match self.version {
            Version::V5 => max_inflight,
            Version::V311 => BRIDGE_MAX_INFLIGHT_311_DEFAULT.min(max_inflight),
        });
        let client_id = self.client_id.unwrap_or_else(|| format!("{}.{}", host_name(), self.name).into());
        Ok(Bridge {
            name: self.name,
            host: self.host,
            port: self.port,
            version: self.version,
            client_id,
            keep_alive_seconds: self.keep_alive_seconds,
            username: self.username,
            password,
            receive_maximum: self.receive_maximum,
            max_inflight,
            topics,
        })
    }
}

fn bridge_name(text: &str) -> Result<Box<str>, String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_allowed) {
        Ok(text.into())
    } else {
        Err(format!("{text:?} is no name: allowed are 1 to {NAME_BYTES_MAX} letters, digits, -, _ and ."))
    }
}

fn version(text: &str) -> Result<Version, String> {
    match text {
        "5.0" | "5" => Ok(Version::V5),
        "3.1.1" => Ok(Version::V311),
        _ => Err("protocol: allowed is 5.0 or 3.1.1".to_owned()),
    }
}

/// Reads `host`, `host:port`, `::1` or `[::1]:port`.
fn host_and_port(text: &str) -> Option<(Box<str>, u16)> {
    let port = |text: &str| text.parse().ok().filter(|port| *port > 0);
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']')?;
            match behind {
                "" => (host, PORT_DEFAULT),
                behind => (host, port(behind.strip_prefix(':')?)?),
            }
        }
        None => match text.split_once(':') {
            Some((host, behind)) if !behind.contains(':') => (host, port(behind)?),
            Some(_) | None => (text, PORT_DEFAULT),
        },
    };
    (!host.is_empty()).then(|| (host.into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assembled(bridges: &[&str], topics: &[&str]) -> Result<Vec<Arc<Bridge>>, String> {
        let bridges = bridges.iter().map(|text| bridge(text).expect("a bridge")).collect();
        let topics = topics.iter().map(|text| topic(text).expect("a topic")).collect();
        assemble(bridges, topics, 1000, || "edge-7".to_owned())
    }

    #[test]
    fn a_bridge_has_what_it_was_given() {
        let bridges = assembled(
            &["up=hub.example:1884,protocol=3.1.1,client-id=me,keep-alive=5,user=u,receive-maximum=9", "b=[::1]"],
            &["up=a/#,both,qos=1,local=l/,remote=r/", "b=#", "up=c,in"],
        )
        .expect("good flags");
        let [up, b] = &bridges[..] else { panic!("two bridges") };
        assert_eq!((&*up.host, up.port, up.version), ("hub.example", 1884, Version::V311));
        assert_eq!((&*up.client_id, up.keep_alive_seconds, up.receive_maximum), ("me", 5, Some(9)));
        assert_eq!((up.max_inflight, b.max_inflight), (20, 1000));
        assert_eq!((up.username.as_deref(), up.password.is_none()), (Some("u"), true));
        assert_eq!(up.topics.local_filters(), [("l/a/#", QoS::AtLeastOnce)]);
        assert_eq!(up.topics.remote_filters(), [("r/a/#", QoS::AtLeastOnce), ("c", QoS::ExactlyOnce)]);
        assert_eq!((&*b.host, b.port, b.version, &*b.client_id), ("::1", 1883, Version::V5, "edge-7.b"));
        assert_eq!(b.topics.local_filters(), [("#", QoS::ExactlyOnce)]);
    }

    #[test]
    fn hosts_and_ports_are_told_apart() {
        for (text, expected) in [
            ("h", Some(("h", 1883))),
            ("h:1", Some(("h", 1))),
            ("::1", Some(("::1", 1883))),
            ("[::1]:2", Some(("::1", 2))),
            ("h:", None),
            ("h:0", None),
            ("h:65536", None),
            ("[::1", None),
            ("[::1]2", None),
            (":1", None),
            ("", None),
        ] {
            let expected = expected.map(|(host, port): (&str, u16)| (host.into(), port));
            assert_eq!(host_and_port(text), expected, "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_told() {
        for (bridges, topics, expected) in [
            (&["a=h"][..], &[][..], "--bridge a has 0 topics"),
            (&["a=h", "a=i"], &["a=x"], "--bridge a is given twice"),
            (&["a=h"], &["a=x", "b=y"], "--bridge-topic b: no --bridge has that name; there are: a"),
            (&[], &["b=y"], "there are: none"),
        ] {
            let error = assembled(bridges, topics).expect_err("refused");
            assert!(error.contains(expected), "{error}");
        }
        let missing = assembled(&["a=h,user=u,password-file=/nowhere/at/all"], &["a=x"]).expect_err("refused");
        assert!(missing.contains("the password file /nowhere/at/all cannot be read"), "{missing}");
    }
}
