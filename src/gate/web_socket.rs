//! The request for a WebSocket, read and answered.

use crate::config::{MAX_UPGRADE_REQUEST_BYTES, WebSocketRules};

use super::client::NoPacket;
use super::upgrade::{Upgrade, upgrade};
use super::wire::Wire;

/// The request of a library fits; that of a browser with its cookies may need more.
const FIRST_READ_BYTES: usize = 1024;

/// Reads on behind `received` until the whole request is there, and answers it if it is granted. Returns what came behind it.
/// The buffer at most doubles with each read.
pub(super) async fn grant(
    wire: &mut Wire<'_>,
    mut received: Vec<u8>,
    rules: &WebSocketRules,
) -> Result<Vec<u8>, NoPacket> {
    let mut judged = 0;
    let mut filled = 0;
    loop {
        // Between two ends of lines nothing is decided, so a request that trickles in is not judged with each byte; but what is
        // none is recognized by its first one.
        let is_judged =
            filled == 0 || received.len() >= MAX_UPGRADE_REQUEST_BYTES || received[judged..].contains(&b'\n');
        if is_judged {
            judged = received.len();
            match upgrade(&received, rules) {
                Upgrade::Incomplete => {}
                Upgrade::Granted { request_bytes, answer } => {
                    wire.write(answer).await?;
                    return Ok(received.split_off(request_bytes));
                }
                Upgrade::Refused(refusal) => {
                    return Err(NoPacket::Answered { text: refusal.text(), answer: refusal.answer() });
                }
                Upgrade::Foreign => return Err(NoPacket::Foreign("it asks for no WebSocket")),
            }
        }
        filled = received.len();
        let room = filled.max(FIRST_READ_BYTES).min(MAX_UPGRADE_REQUEST_BYTES - filled);
        received = wire.read(received, room).await?;
        if received.len() == filled {
            return Err(NoPacket::Closed);
        }
    }
}
