use std::ffi::OsString;

use super::*;
use crate::cli::{Action, action};
use crate::config::ServeConfig;

fn of(text: &str) -> Conversion {
    let main = MosquittoFile { name: "m.conf".to_owned(), text: text.to_owned() };
    convert(&main, |_| Err(io::ErrorKind::NotFound.into()))
}

/// The keys of the result, without what stands behind them.
fn keys(text: &str) -> Vec<String> {
    let key = |line: &str| line.split("  # ").next().unwrap_or_default().to_owned();
    of(text).text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(key).collect()
}

/// How oncemq would be started with the result.
fn config(text: &str) -> Result<Box<ServeConfig>, String> {
    let converted = of(text).text;
    let arguments = ["oncemq", "--config=it.toml"].map(OsString::from);
    match action(&arguments, |_| Ok(converted.clone())).map_err(|error| error.to_string())? {
        Action::Serve { config, .. } => Ok(config),
        other => panic!("it serves: {other:?}"),
    }
}

/// Words of a note without the breaks between lines.
fn flat(conversion: &Conversion) -> String {
    conversion.text.replace("\n# ", " ")
}

#[test]
fn each_line_becomes_the_key_that_means_it() {
    for (line, expected) in [
        ("max_inflight_messages 5", &["receive-maximum = 5", "max-inflight = 5"][..]),
        ("max_inflight_messages 0", &["receive-maximum = 65535", "max-inflight = 65535"]),
        ("max_queued_messages 7", &["max-queued-messages = 7"]),
        ("max_queued_messages 0", &["max-queued-messages = 100000000"]),
        ("max_queued_bytes 5000", &["max-queued-bytes = 5000"]),
        ("max_queued_bytes 0", &["max-queued-bytes = 1099511627776"]),
        ("max_packet_size 20", &["max-packet-bytes = 1024"]),
        ("max_packet_size 2000", &["max-packet-bytes = 2000"]),
        ("message_size_limit 1000", &["max-packet-bytes = 66535"]),
        ("message_size_limit 0", &["max-packet-bytes = 134217728"]),
        ("max_keepalive 60", &["max-keep-alive = 60"]),
        ("sys_interval 0", &["sys-interval = 0"]),
        ("sys_interval 86400", &["sys-interval = 3600"]),
        ("retain_available false", &["retain-available = false"]),
        ("persistence true", &["durability = \"sync\""]),
        ("persistence false", &["durability = \"none\""]),
        ("persistence_location /var/lib/mosquitto/", &["data-dir = \"/var/lib/mosquitto/oncemq\""]),
        ("log_type error\nlog_type notice", &["log-level = \"info\""]),
        ("log_type all", &["log-level = \"debug\""]),
        ("password_file /etc/people", &["password-file = \"/etc/people\"", "allow-anonymous = true"]),
        ("allow_anonymous false", &["password-file = \"/dev/null\""]),
        ("listener 1883 127.0.0.1\nallow_anonymous true", &["listen = [\"127.0.0.1:1883\"]", "allow-anonymous = true"]),
        ("listener 1883 127.0.0.1\npassword_file p", &["listen = [\"127.0.0.1:1883\"]", "password-file = \"p\""]),
        (
            "listener 0 /run/mqtt\nallow_anonymous true",
            &["listen = [\"none\"]", "unix-listen = [\"/run/mqtt\"]", "allow-anonymous = true"],
        ),
        ("port 1884\nallow_anonymous true", &["listen = [\"[::]:1884\"]", "allow-anonymous = true"]),
        ("bind_address 192.0.2.1\nallow_anonymous true", &["listen = [\"192.0.2.1:1883\"]", "allow-anonymous = true"]),
        (
            "listener 1883 localhost\nlistener 8083 ::1\nprotocol websockets\nmax_connections 5\nallow_anonymous 1",
            &["listen = [\"127.0.0.1:1883\"]", "websocket-listen = [\"[::1]:8083\"]", "allow-anonymous = true"],
        ),
        (
            "listener 1883 127.0.0.1\nmax_connections 5\nlistener 1884 127.0.0.1\nmax_connections 6 \nallow_anonymous true",
            &["listen = [\"127.0.0.1:1883\", \"127.0.0.1:1884\"]", "max-connections = 11", "allow-anonymous = true"],
        ),
        (
            "listener 8883 127.0.0.1\ncertfile c\nkeyfile k\ntls_version tlsv1.3\npassword_file p",
            &[
                "listen = [\"none\"]",
                "password-file = \"p\"",
                "tls-listen = [\"127.0.0.1:8883\"]",
                "tls-certificate = \"c\"",
                "tls-key = \"k\"",
                "tls-min-version = \"1.3\"",
            ],
        ),
        (
            "listener 8883 127.0.0.1\ncertfile c\nkeyfile k\ncafile a\ncrlfile r\nrequire_certificate true\nuse_identity_as_username true",
            &[
                "listen = [\"none\"]",
                "tls-listen = [\"127.0.0.1:8883\"]",
                "tls-certificate = \"c\"",
                "tls-key = \"k\"",
                "tls-client-ca = \"a\"",
                "tls-crl = \"r\"",
                "tls-identity = \"cn\"",
            ],
        ),
        (
            "connection hub x\naddress 192.0.2.7:1884\ntopic # both 2 here/ there/\ntopic x\ntopic \"\" in 1 a/b c/d\nremote_username me",
            &[
                "bridge = [\"hub-x=192.0.2.7:1884,protocol=3.1.1,user=me\"]",
                "bridge-topic = [\"hub-x=#,both,qos=2,local=here/,remote=there/\", \"hub-x=x,out,qos=0\", \"hub-x=,in,qos=1,local=a/b,remote=c/d\"]",
            ],
        ),
        (
            "connection hub\naddresses hub.example\nbridge_protocol_version mqttv50\nclientid me\nkeepalive_interval 30\ntopic #\ntry_private true",
            &[
                "bridge = [\"hub=hub.example,protocol=5.0,client-id=me,keep-alive=30\"]",
                "bridge-topic = [\"hub=#,out,qos=0\"]",
            ],
        ),
    ] {
        let (mut found, mut expected) = (keys(line), expected.to_vec());
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{line}: {}", of(line).text);
        let config = config(line);
        assert!(config.is_ok(), "{line}: {config:?}");
    }
}

#[test]
fn what_is_not_carried_over_is_named() {
    for (text, security, parts) in [
        ("autosave_interval 5", 0, &["Not needed: m.conf:1: autosave_interval 5: every change is logged"][..]),
        ("\n# x\nuser mosquitto", 0, &["Not carried over: m.conf:3: user mosquitto: oncemq keeps the user"]),
        (
            "listener 0 /tmp/socket\nprotocol websockets\nallow_anonymous true",
            0,
            &["m.conf:1: listener 0 /tmp/socket: at Unix sockets only plain MQTT"],
        ),
        (
            "listener 1883 broker.example\nmax_qos 1",
            0,
            &["m.conf:1: listener 1883 broker.example: an IP address", "m.conf:2: max_qos 1: its listener"],
        ),
        ("psk_file /etc/x", 1, &["m.conf:1: psk_file /etc/x: (security) TLS with pre-shared"]),
        (
            "plugin /x.so\nplugin_opt_token hidden",
            2,
            &["m.conf:1: plugin /x.so: (security) there are no", "plugin_opt_token ...:"],
        ),
        ("clientid_prefixes a-", 1, &["m.conf:1: clientid_prefixes a-: (security)"]),
        ("made_up 7", 1, &["m.conf:1: made_up 7: (security) this is not known"]),
        ("include_dir /nowhere", 1, &["m.conf:1: include_dir /nowhere: (security) it cannot be read"]),
        ("listener 1883\nbind_interface eth0", 1, &["m.conf:1: listener 1883: (security) it cannot be bound"]),
        ("listener 1883\nmount_point x/", 1, &["topics cannot be mounted"]),
        ("listener 1883\npsk_hint x", 1, &["pre-shared keys is not spoken"]),
        ("listener 1883\ncertfile c", 1, &["TLS wants both certfile and keyfile"]),
        ("listener 1883\nuse_username_as_clientid true", 1, &["m.conf:2: use_username_as_clientid true: (security)"]),
        (
            "listener 8883\ncertfile c\nkeyfile k\nuse_subject_as_username true\ncafile a\nrequire_certificate true",
            1,
            &["the whole subject"],
        ),
        ("listener 8883\ncertfile c\nkeyfile k\ncapath a\nrequire_certificate true", 1, &["have to stand in one file"]),
        ("listener 8883\ncertfile c\nkeyfile k\ncafile a", 0, &["m.conf:4: cafile a: no certificates are asked for"]),
        (
            "listener 8883\ncertfile c\nkeyfile k\nlistener 8884\ncertfile d\nkeyfile k",
            1,
            &["m.conf:4: listener 8884: (security) its settings of TLS"],
        ),
        (
            "connection a\naddress h\ntopic #\nbridge_cafile x",
            1,
            &["m.conf:1: connection a: (security) bridges do not speak TLS", "m.conf:2: address h: its"],
        ),
        (
            "connection a\naddress h\ntopic #\nremote_password hidden",
            0,
            &["m.conf:4: remote_password ...: passwords stand in files"],
        ),
        (
            "connection a\naddress h i\ntopic #\ntopic a,b\ntopic x/#/y",
            0,
            &["address h i: one address", "topic a,b: neither comma", "topic x/#/y: "],
        ),
        ("connection a\ntopic #", 0, &["m.conf:1: connection a: it has no address"]),
        ("address h", 0, &["m.conf:1: address h: it stands in front of all connections"]),
    ] {
        let conversion = of(text);
        let flat = flat(&conversion);
        for part in parts {
            assert!(flat.contains(part), "{text}: {part}: {flat}");
        }
        assert_eq!(conversion.about_security, security, "{text}: {flat}");
        assert_eq!(conversion.is_less_secure(), security > 0);
        assert!(!flat.contains("hidden"), "{flat}");
    }
}

#[test]
fn every_line_has_one_outcome() {
    let text = "per_listener_settings true\nmax_connections 7\nport 1884\nmax_topic_alias 3\nlistener 8883 127.0.0.1\nprotocol mqtt\n\
        certfile c\nkeyfile k\nciphers x\nallow_anonymous true\nlistener 8083 127.0.0.1\nprotocol websockets\nhttp_dir x\n\
        allow_anonymous true\nallow_anonymous false\nautosave_interval 3\nuser me\nconnection a\naddress h\ntopic #\ntry_private true\n";
    let conversion = of(text);
    let Conversion { carried_over, not_needed, left_out, .. } = conversion;
    assert_eq!(carried_over + not_needed + left_out, text.lines().count(), "{}", conversion.text);
}

#[test]
fn listeners_with_other_policies_are_left_out() {
    let text = "per_listener_settings true\nlistener 1883 127.0.0.1\npassword_file a\nlistener 1884 127.0.0.1\nallow_anonymous true\n\
        listener 1885 127.0.0.1\npassword_file a\n";
    let conversion = of(text);
    assert_eq!(keys(text), ["listen = [\"127.0.0.1:1883\", \"127.0.0.1:1885\"]", "password-file = \"a\""]);
    assert!(conversion.is_less_secure());
    assert!(
        flat(&conversion).contains("m.conf:4: listener 1884 127.0.0.1: (security) who may connect differs"),
        "{}",
        conversion.text
    );
    // Without the word they share what is said last.
    let shared = &text["per_listener_settings true\n".len()..];
    assert!(!of(shared).is_less_secure());
    assert_eq!(config(shared).expect("it can be served").listen.len(), 3);
}

#[test]
fn what_stands_in_front_makes_a_listener_as_in_mosquitto() {
    assert_eq!(
        keys("max_connections 5\nlistener 1884 127.0.0.1\nallow_anonymous true")[0],
        "listen = [\"[::]:1883\", \"127.0.0.1:1884\"]"
    );
    assert_eq!(
        keys("max_topic_alias 5\nlistener 1884 127.0.0.1\nallow_anonymous true")[0],
        "listen = [\"127.0.0.1:1884\"]"
    );
    let nothing = "max_qos 2\nmax_connections -1\nprotocol mqtt\nrequire_certificate false\nallow_anonymous true\n";
    assert_eq!(keys(&format!("{nothing}listener 1884 127.0.0.1"))[0], "listen = [\"127.0.0.1:1884\"]");
    let later = "listener 1884 127.0.0.1\nport 1885\nbind_address 127.0.0.1\nallow_anonymous true";
    assert_eq!(keys(later)[0], "listen = [\"127.0.0.1:1885\", \"127.0.0.1:1884\"]");
    assert_eq!(keys(""), [""; 0], "mosquitto serves its own machine then");
}

/// Accounts that can't be carried over leave nobody in, instead of everybody on this machine.
#[test]
fn what_cannot_be_said_opens_nothing() {
    for text in
        ["listener 1883 127.0.0.1\npassword_file", "listener 1883 127.0.0.1\nplugin /x.so", "listener 1883 127.0.0.1"]
    {
        assert_eq!(keys(text), ["listen = [\"127.0.0.1:1883\"]", "password-file = \"/dev/null\""], "{text}");
    }
}

#[test]
fn lines_are_named_in_their_order() {
    let text = "user me\nlistener 0 /tmp/x\npid_file y\ncertfile a\ncafile b\nauto_id_prefix x\n";
    let text = of(text).text;
    let places: Vec<usize> =
        text.lines().filter_map(|line| line.strip_prefix("# m.conf:")?.split(':').next()?.parse().ok()).collect();
    assert_eq!(places, [1, 2, 4, 5, 6, 3], "{text}");
}

#[test]
fn rules_are_carried_over_as_soon_as_there_is_a_key_for_them() {
    let text = "listener 1883 127.0.0.1\npassword_file p\nacl_file rules\n";
    let conversion = of(text);
    let has_key = super::super::file::keys(&super::super::file::table()).any(|(key, _)| key == "acl-file");
    assert_eq!(conversion.is_less_secure(), !has_key);
    assert_eq!(conversion.text.contains("\nacl-file = \"rules\""), has_key);
}

#[test]
fn directories_are_included_where_they_stand() {
    let main = MosquittoFile {
        name: "m.conf".to_owned(),
        text: "listener 1883 127.0.0.1\ninclude_dir d\nsys_interval 5\n".to_owned(),
    };
    let conversion = convert(&main, |path| {
        assert_eq!(path, Path::new("d"));
        Ok(vec![MosquittoFile {
            name: "d/a.conf".to_owned(),
            text: "\nmax_connections 7\nallow_anonymous true".to_owned(),
        }])
    });
    assert!(conversion.text.contains("\nmax-connections = 7  # d/a.conf:2\n"), "{}", conversion.text);
    assert_eq!(conversion.summary(), "5 lines carried over, 0 not needed, 0 not carried over");
}

proptest::proptest! {
    /// Whatever stands in it, it is converted, each line has an outcome, and the result is a configuration file.
    #[test]
    fn all_texts_are_converted(lines in proptest::collection::vec((0usize..WORDS.len(), ".{0,12}"), 0..20)) {
        let text: String = lines.iter().map(|(word, rest)| format!("{} {rest}\n", WORDS[*word])).collect();
        let conversion = of(&text);
        let main = MosquittoFile { name: String::new(), text: text.clone() };
        let Conversion { carried_over, not_needed, left_out, .. } = conversion;
        proptest::prop_assert_eq!(carried_over + not_needed + left_out, super::lines(&main).count(), "{}\n{}", text, conversion.text);
        let arguments = ["oncemq", "config", "print", "--config=it.toml"].map(OsString::from);
        if let Err(error) = action(&arguments, |_| Ok(conversion.text.clone())) {
            let error = error.to_string();
            // Each value is good by itself; whether they fit together is for who starts it to see.
            proptest::prop_assert!(!error.contains("it.toml:") || error.contains(" has "), "{text}: {error}");
        }
    }
}

/// Words that say something together.
const WORDS: [&str; 30] = [
    "listener 1883",
    "listener 8883 127.0.0.1",
    "listener",
    "port",
    "bind_address ::1",
    "protocol websockets",
    "certfile",
    "keyfile",
    "cafile",
    "require_certificate true",
    "use_identity_as_username true",
    "psk_hint",
    "per_listener_settings true",
    "password_file",
    "allow_anonymous",
    "acl_file",
    "plugin",
    "max_connections",
    "max_qos",
    "connection",
    "address",
    "topic",
    "topic #",
    "remote_clientid",
    "bridge_cafile",
    "max_packet_size",
    "message_size_limit 5",
    "persistence_location",
    "log_type",
    "max_inflight_messages 9\nsys_interval",
];
