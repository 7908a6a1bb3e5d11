//! What comes on a WebSocket, cut anywhere: the headers of frames, and what is in them.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control as ControlCode, Data as DataCode, OpCode};

use super::{CONTROL_BYTES_MAX, Close, Ended};

/// Length of the longest header of a frame: that of a client, which has a mask.
const HEADER_BYTES_MAX: usize = 14;

/// The mask of a frame that has none: it changes nothing.
const NO_MASK: [u8; 4] = [0; 4];

/// Where in the frames of the other end the next byte belongs.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    sender: Sender,
    place: Place,
    /// The last data frame that has begun is not the last one of its message.
    is_in_message: bool,
}

/// Whose frames they are, which says whether they are masked.
#[derive(Clone, Copy, Debug, Default)]
enum Sender {
    #[default]
    Client,
    Server,
}

#[derive(Debug)]
enum Place {
    Header(PartialHeader),
    Data(Masked),
    /// Boxed, because it is rare.
    Control(Box<Control>),
    /// The other end has sent a close frame, or what ends the connection; with the answer to that.
    Ended(Close),
}

/// Between two frames, or in a header of which these bytes are there.
#[derive(Debug, Default)]
struct PartialHeader {
    bytes: [u8; HEADER_BYTES_MAX],
    length: u8,
}

/// A payload of which so many bytes are to come, the first of which the first byte of the mask belongs to.
#[derive(Debug)]
struct Masked {
    missing: u64,
    mask: [u8; 4],
}

#[derive(Debug)]
struct Control {
    kind: ControlKind,
    rest: Masked,
    /// What is there of it.
    payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum ControlKind {
    Close,
    Ping,
    Pong,
}

impl Default for Place {
    fn default() -> Self {
        Place::Header(PartialHeader::default())
    }
}

impl Incoming {
    /// The frames of a server.
    pub(super) fn of_server() -> Self {
        Self { sender: Sender::Server, ..Self::default() }
    }

    /// Takes some of what was received, up to the end of a header or of a payload at most; gives the payload of a ping.
    pub(super) fn take(
        &mut self,
        received: &mut &[u8],
        packets: &mut Vec<u8>,
        max: usize,
    ) -> Result<Option<Box<[u8]>>, Ended> {
        match &mut self.place {
            Place::Header(partial) => match partial.complete(received) {
                Ok(Some((header, length))) => self.begin_frame(&header, length),
                Ok(None) => Ok(None),
                Err(violation) => Err(self.violated(violation)),
            },
            Place::Data(masked) => {
                masked.take(received, packets, max);
                if masked.missing == 0 {
                    self.place = Place::default();
                }
                Ok(None)
            }
            Place::Control(control) => {
                control.rest.take(received, &mut control.payload, CONTROL_BYTES_MAX);
                if control.rest.missing > 0 {
                    return Ok(None);
                }
                let (kind, payload) = (control.kind, std::mem::take(&mut control.payload));
                self.end_control(kind, payload)
            }
            Place::Ended(_) => {
                *received = &[];
                Ok(None)
            }
        }
    }

    /// What to answer an end that has ended the connection.
    pub(super) fn answer(&self) -> Option<Close> {
        match &self.place {
            Place::Ended(answer) => Some(*answer),
            Place::Header(_) | Place::Data(_) | Place::Control(_) => None,
        }
    }

    fn begin_frame(&mut self, header: &FrameHeader, length: u64) -> Result<Option<Box<[u8]>>, Ended> {
        match kind_of(header, length, self.sender, self.is_in_message) {
            Ok((Kind::Data, mask)) => {
                self.is_in_message = !header.is_final;
                self.place = if length == 0 { Place::default() } else { Place::Data(Masked { missing: length, mask }) };
                Ok(None)
            }
            Ok((Kind::Control(kind), _)) if length == 0 => self.end_control(kind, Vec::new()),
            Ok((Kind::Control(kind), mask)) => {
                let rest = Masked { missing: length, mask };
                self.place = Place::Control(Box::new(Control { kind, rest, payload: Vec::new() }));
                Ok(None)
            }
            Err(violation) => Err(self.violated(violation)),
        }
    }

    fn end_control(&mut self, kind: ControlKind, payload: Vec<u8>) -> Result<Option<Box<[u8]>>, Ended> {
        self.place = Place::default();
        match kind {
            ControlKind::Ping => Ok(Some(payload.into_boxed_slice())),
            // Nobody has asked for it, which RFC 6455 (section 5.5.3) allows.
            ControlKind::Pong => Ok(None),
            ControlKind::Close => match closing_code(&payload) {
                Ok(code) => {
                    self.place = Place::Ended(Close::answer(code));
                    Err(Ended::ByClient)
                }
                Err(violation) => Err(self.violated(violation)),
            },
        }
    }

    fn violated(&mut self, violation: Close) -> Ended {
        self.place = Place::Ended(violation);
        Ended::ByViolation(violation)
    }
}

impl PartialHeader {
    /// The header and the length of the payload behind it, once it is whole.
    fn complete(&mut self, received: &mut &[u8]) -> Result<Option<(FrameHeader, u64)>, Close> {
        if self.length == 0
            && let Some((header, length, header_bytes)) = parse(received)?
        {
            *received = &received[header_bytes..];
            return Ok(Some((header, length)));
        }
        // It is split, and so short that byte by byte is cheap.
        while let Some((&byte, rest)) = received.split_first() {
            *received = rest;
            self.bytes[usize::from(self.length)] = byte;
            self.length += 1;
            if let Some((header, length, _)) = parse(&self.bytes[..usize::from(self.length)])? {
                self.length = 0;
                return Ok(Some((header, length)));
            }
        }
        Ok(None)
    }
}

impl Masked {
    /// Takes off the mask of what was received, until `into` has `max` bytes.
    fn take(&mut self, received: &mut &[u8], into: &mut Vec<u8>, max: usize) {
        let missing = usize::try_from(self.missing).unwrap_or(usize::MAX);
        let taken = missing.min(received.len()).min(max - into.len());
        let (masked, rest) = received.split_at(taken);
        let filled = into.len();
        into.extend_from_slice(masked);
        if self.mask != NO_MASK {
            apply_mask(&mut into[filled..], self.mask);
            self.mask.rotate_left(taken % 4);
        }
        self.missing -= taken as u64;
        *received = rest;
    }
}

/// What a frame is about.
enum Kind {
    Data,
    Control(ControlKind),
}

/// The header at the start of `bytes`, the length of its payload, and its own; nothing if it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(FrameHeader, u64, usize)>, Close> {
    let mut cursor = Cursor::new(bytes);
    match FrameHeader::parse(&mut cursor) {
        Ok(None) => Ok(None),
        Ok(Some((header, length))) => {
            // As a position in a slice.
            let header_bytes = cursor.position() as usize;
            // RFC 6455, section 5.2
            if header.len(length) != header_bytes || length > i64::MAX as u64 {
                return Err(Close::protocol("a length that is not in its shortest form, or too large"));
            }
            Ok(Some((header, length, header_bytes)))
        }
        Err(_) => Err(Close::protocol("a frame of a kind that is reserved")),
    }
}

/// What a frame is about, and its mask, if it may come here.
fn kind_of(header: &FrameHeader, length: u64, sender: Sender, is_in_message: bool) -> Result<(Kind, [u8; 4]), Close> {
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(Close::protocol("reserved bits of an extension that was not agreed upon"));
    }
    // RFC 6455, section 5.1
    let mask = match (sender, header.mask) {
        (Sender::Client, Some(mask)) => mask,
        (Sender::Server, None) => NO_MASK,
        (Sender::Client, None) => return Err(Close::protocol("a frame of the client without a mask")),
        (Sender::Server, Some(_)) => return Err(Close::protocol("a frame of the server with a mask")),
    };
    let control = match header.opcode {
        OpCode::Data(code) => return data_frame(code, is_in_message).map(|()| (Kind::Data, mask)),
        OpCode::Control(ControlCode::Close) => ControlKind::Close,
        OpCode::Control(ControlCode::Ping) => ControlKind::Ping,
        OpCode::Control(ControlCode::Pong) => ControlKind::Pong,
        OpCode::Control(ControlCode::Reserved(_)) => return Err(Close::protocol("a control frame that is reserved")),
    };
    // RFC 6455, section 5.5
    if !header.is_final || length > CONTROL_BYTES_MAX as u64 {
        return Err(Close::protocol("a control frame that is fragmented or has more than 125 bytes"));
    }
    Ok((Kind::Control(control), mask))
}

/// Whether a data frame may come here.
fn data_frame(code: DataCode, is_in_message: bool) -> Result<(), Close> {
    match (code, is_in_message) {
        (DataCode::Binary, false) | (DataCode::Continue, true) => Ok(()),
        // RFC 6455, section 5.4
        (DataCode::Binary | DataCode::Text, true) => Err(Close::protocol("a message inside another one")),
        (DataCode::Continue, false) => Err(Close::protocol("a continuation of nothing")),
        // [MQTT-6.0.0-1]
        (DataCode::Text, false) => Err(Close::new(CloseCode::Unsupported, "MQTT comes in binary frames")),
        (DataCode::Reserved(_), _) => Err(Close::protocol("a data frame that is reserved")),
    }
}

/// The code in a close frame, if there is one (RFC 6455, sections 5.5.1 and 7.4).
fn closing_code(payload: &[u8]) -> Result<Option<CloseCode>, Close> {
    let Some((code, text)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Close::protocol("half a code in a close frame")) };
    };
    let code = CloseCode::from(u16::from_be_bytes(*code));
    if !code.is_allowed() {
        return Err(Close::protocol("a code that may not stand in a close frame"));
    }
    match std::str::from_utf8(text) {
        Ok(_) => Ok(Some(code)),
        Err(_) => Err(Close::new(CloseCode::Invalid, "the reason in a close frame is not UTF-8")),
    }
}

/// Takes a mask off, or puts it on, in words that the machine can take several of at once.
pub(super) fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    let (words, rest) = bytes.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}
