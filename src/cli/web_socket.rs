//! The flags of MQTT over WebSocket.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;

use crate::config::{WEBSOCKET_PATH_DEFAULT, WebSocketRules, WebSocketSettings};

use super::values::address;

/// Where and to whom MQTT over WebSocket is served.
#[derive(Debug, Args)]
pub(super) struct WebSocketArguments {
    /// Address to accept MQTT over WebSocket on; repeat for more. None unless given. As --listen, others than
    /// loopback want --password-file or --allow-anonymous.
    #[arg(long, value_name = "ADDRESS:PORT", env = "ONCEMQ_WEBSOCKET_LISTEN", value_delimiter = ',',
          value_parser = address)]
    websocket_listen: Vec<SocketAddr>,

    /// Path that clients ask for a WebSocket at.
    #[arg(long, value_name = "PATH", env = "ONCEMQ_WEBSOCKET_PATH", default_value = WEBSOCKET_PATH_DEFAULT,
          value_parser = path)]
    websocket_path: Box<str>,

    /// Origin whose pages may connect, such as https://panel.example; repeat for more [default: all]. Clients that are no
    /// browsers name none, and always may.
    #[arg(long, value_name = "ORIGIN", env = "ONCEMQ_WEBSOCKET_ORIGIN", value_delimiter = ',', value_parser = origin)]
    websocket_origin: Vec<Box<str>>,
}

impl WebSocketArguments {
    pub(super) fn into_settings(self) -> WebSocketSettings {
        let rules = WebSocketRules { path: self.websocket_path, origins: self.websocket_origin };
        WebSocketSettings { listen: self.websocket_listen, rules: Arc::new(rules) }
    }
}

/// What can be the path of a request.
fn path(text: &str) -> Result<Box<str>, &'static str> {
    let is_of_path = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    if text.starts_with('/') && text.bytes().all(is_of_path) {
        Ok(text.into())
    } else {
        Err("allowed is a path that begins with a slash, without `?` and `#`, such as /mqtt")
    }
}

/// A scheme and a host, maybe with a port, as a browser writes them; or `null`, which pages without an origin have.
fn origin(text: &str) -> Result<Box<str>, &'static str> {
    let host = text.split_once("://").filter(|(scheme, _)| !scheme.is_empty()).map(|(_, host)| host);
    let is_of_host = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'?' | b'#' | b'@' | b'*');
    if text == "null" || host.is_some_and(|host| !host.is_empty() && host.bytes().all(is_of_host)) {
        Ok(text.to_ascii_lowercase().into())
    } else {
        Err("allowed is a scheme and a host, maybe with a port, such as https://panel.example, or null")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        web_socket: WebSocketArguments,
    }

    fn parse(arguments: &[&str]) -> Result<WebSocketSettings, String> {
        let parsed = Flags::try_parse_from([&["oncemq"], arguments].concat());
        parsed.map(|flags| flags.web_socket.into_settings()).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_served_unless_told_otherwise() {
        assert_eq!(parse(&[]), Ok(WebSocketSettings::default()));
    }

    #[test]
    fn each_flag_has_its_effect() {
        let arguments = [
            "--websocket-listen=127.0.0.1:8083",
            "--websocket-listen=[::1]:8083",
            "--websocket-path=/",
            "--websocket-origin=https://Panel.example:8443",
            "--websocket-origin=null",
        ];
        let settings = parse(&arguments).expect("good values");
        assert_eq!(settings.listen.len(), 2);
        assert_eq!(*settings.rules.path, *"/");
        assert_eq!(settings.rules.origins, ["https://panel.example:8443".into(), "null".into()]);
    }

    #[test]
    fn a_bad_value_is_told_by_flag_value_and_what_is_allowed() {
        for (flag, value, allowed) in [
            ("--websocket-listen", "localhost", "127.0.0.1:1883"),
            ("--websocket-path", "mqtt", "begins with a slash"),
            ("--websocket-path", "/a b", "begins with a slash"),
            ("--websocket-origin", "panel.example", "such as https://panel.example"),
            ("--websocket-origin", "https://panel.example/", "such as https://panel.example"),
            ("--websocket-origin", "*", "such as https://panel.example"),
        ] {
            let text = parse(&[flag, value]).expect_err("refused");
            for part in [flag, value, allowed] {
                assert!(text.contains(part), "{flag} {value}: {text}");
            }
        }
    }
}
