//! Where and to whom MQTT over WebSocket is served.

use std::net::SocketAddr;
use std::sync::Arc;

/// What `oncemq serve` was told about WebSockets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WebSocketSettings {
    /// Addresses to accept clients on; empty where WebSockets are not served.
    pub listen: Vec<SocketAddr>,
    /// Who may come in there, the same for all.
    pub rules: Arc<WebSocketRules>,
}

/// Which requests for a WebSocket are granted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WebSocketRules {
    /// The path that they have to name, which begins with a slash.
    pub path: Box<str>,
    /// The pages whose scripts may connect, as browsers name them (`https://panel.example`); empty is all. Who is not a browser
    /// names none, and is not kept out by that.
    pub origins: Vec<Box<str>>,
}

/// The path when nothing is said, as other brokers have it.
pub const WEBSOCKET_PATH_DEFAULT: &str = "/mqtt";

/// Bytes of the request for a WebSocket, at most: with cookies and all that browsers add, and what common HTTP servers take.
pub const MAX_UPGRADE_REQUEST_BYTES: usize = 8 * 1024;

/// Header fields of such a request, at most.
pub const MAX_UPGRADE_HEADERS: usize = 64;

impl Default for WebSocketRules {
    fn default() -> Self {
        Self { path: WEBSOCKET_PATH_DEFAULT.into(), origins: Vec::new() }
    }
}
