//! The request for a WebSocket, read and answered.

use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;

use crate::config::{MAX_UPGRADE_REQUEST_BYTES, WebSocketRules};

use super::client::NoPacket;
use super::upgrade::{Upgrade, upgrade};

/// The request of a library fits; that of a browser with its cookies may need more.
const FIRST_READ_BYTES: usize = 1024;

/// Reads until the whole request is there, and answers it if it is granted. Returns what came behind it. The buffer at most
/// doubles with each read.
pub(super) async fn grant(stream: &TcpStream, rules: &WebSocketRules) -> Result<Vec<u8>, NoPacket> {
    let mut received = Vec::with_capacity(FIRST_READ_BYTES);
    let mut judged = 0;
    loop {
        if received.len() == received.capacity() {
            received.reserve_exact(received.len().min(MAX_UPGRADE_REQUEST_BYTES - received.len()));
        }
        let filled = received.len();
        let (result, slice) = stream.read(received.slice(filled..)).await;
        received = slice.into_inner();
        if result? == 0 {
            return Err(NoPacket::Closed);
        }
        // Between two ends of lines nothing is decided, so a request that trickles in is not judged with each byte; but what is
        // none is recognized by its first one.
        let is_judged =
            filled == 0 || received.len() >= MAX_UPGRADE_REQUEST_BYTES || received[judged..].contains(&b'\n');
        if !is_judged {
            continue;
        }
        judged = received.len();
        match upgrade(&received, rules) {
            Upgrade::Incomplete => {}
            Upgrade::Granted { request_bytes, answer } => {
                stream.write_all(answer).await.0?;
                return Ok(received.split_off(request_bytes));
            }
            Upgrade::Refused(refusal) => {
                return Err(NoPacket::Answered { text: refusal.text(), answer: refusal.answer() });
            }
            Upgrade::Foreign => return Err(NoPacket::Foreign("it asks for no WebSocket")),
        }
    }
}
