//! Greeting, commands and frames as bytes (RFC 23, sections 4 to 7). How bytes are cut into reads changes nothing.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A message larger than this ends its connection, unless the connection has a bound of its own.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
/// READY and its properties; more is an attack.
const MAX_COMMAND_BYTES: usize = 64 * 1024;
const MAX_PARTS: usize = 16;
const MAX_IDENTITY_BYTES: usize = 255;
pub(super) const GREETING_BYTES: usize = 64;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// What makes a connection end.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Malformed {
    #[error("not a ZMTP 3 greeting: the peer speaks something else")]
    Greeting,
    #[error("ZMTP {major}.{minor} is too old, 3.0 or later is spoken here")]
    Version { major: u8, minor: u8 },
    #[error("security mechanism {0:?} is not spoken here, only NULL")]
    Mechanism(String),
    #[error("frame of {found} bytes, at most {most} are accepted")]
    TooLarge { found: u64, most: usize },
    #[error("frame flags {0:#04x} are reserved")]
    Flags(u8),
    #[error("malformed command")]
    Command,
    #[error("more than {MAX_PARTS} parts in one message")]
    Parts,
    #[error("socket type {found:?} cannot talk to a {ours}")]
    SocketType { found: String, ours: &'static str },
    #[error("the peer refused: {0:?}")]
    Refused(String),
}

/// One thing a peer said after the greeting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    Ready {
        socket_type: String,
        identity: Bytes,
    },
    /// A message whose parts are complete.
    Message(Vec<Bytes>),
    /// To be answered by a pong with this context.
    Ping(Bytes),
    /// A command that asks for nothing (PONG, or one of a later version).
    Other,
}

/// Turns what was read into items, one at a time.
pub(super) struct Decoder {
    parts: Vec<Bytes>,
    bytes: usize,
    most: usize,
}

/// Our side's greeting.
pub(super) fn greeting() -> [u8; GREETING_BYTES] {
    let mut out = [0; GREETING_BYTES];
    out[0] = 0xff;
    out[9] = 0x7f;
    out[10] = 3;
    out[12..16].copy_from_slice(b"NULL");
    out
}

/// Checks the other side's.
pub(super) fn check_greeting(data: &[u8; GREETING_BYTES]) -> Result<(), Malformed> {
    if data[0] != 0xff || data[9] & 1 == 0 {
        return Err(Malformed::Greeting);
    }
    if data[10] < 3 {
        return Err(Malformed::Version { major: data[10], minor: data[11] });
    }
    let mechanism = &data[12..32];
    let end = mechanism.iter().position(|byte| *byte == 0).unwrap_or(mechanism.len());
    match &mechanism[..end] {
        b"NULL" => Ok(()),
        other => Err(Malformed::Mechanism(String::from_utf8_lossy(other).into_owned())),
    }
}

/// The READY command of a socket; a ROUTER has no identity to tell.
pub(super) fn ready(socket_type: &str, identity: &[u8], out: &mut BytesMut) {
    let mut body = BytesMut::new();
    body.put_slice(b"\x05READY");
    let mut property = |name: &str, value: &[u8]| {
        body.put_u8(name.len() as u8);
        body.put_slice(name.as_bytes());
        body.put_u32(value.len() as u32);
        body.put_slice(value);
    };
    property("Socket-Type", socket_type.as_bytes());
    property("Identity", identity);
    frame(COMMAND, &body, out);
}

pub(super) fn pong(context: &[u8], out: &mut BytesMut) {
    let mut body = BytesMut::with_capacity(5 + context.len());
    body.put_slice(b"\x04PONG");
    body.put_slice(context);
    frame(COMMAND, &body, out);
}

/// A message of one part.
pub(super) fn message(body: &[u8], out: &mut BytesMut) {
    frame(0, body, out);
}

fn frame(flags: u8, body: &[u8], out: &mut BytesMut) {
    out.reserve(9 + body.len());
    if let Ok(length) = u8::try_from(body.len()) {
        out.put_u8(flags);
        out.put_u8(length);
    } else {
        out.put_u8(flags | LONG);
        out.put_u64(body.len() as u64);
    }
    out.put_slice(body);
}

// === impl Decoder ===

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::of_at_most(MAX_MESSAGE_BYTES)
    }
}

impl Decoder {
    /// For messages of so many bytes.
    pub(super) fn of_at_most(most: usize) -> Decoder {
        Decoder { parts: Vec::new(), bytes: 0, most }
    }

    /// Takes the next item off the front of `data`; `None` when it needs more bytes.
    pub(super) fn next(&mut self, data: &mut BytesMut) -> Result<Option<Item>, Malformed> {
        loop {
            let Some(&flags) = data.first() else { return Ok(None) };
            if flags & !(MORE | LONG | COMMAND) != 0 || (flags & COMMAND != 0 && flags & MORE != 0) {
                return Err(Malformed::Flags(flags));
            }
            let (head, length) = if flags & LONG == 0 {
                let Some(&length) = data.get(1) else { return Ok(None) };
                (2, u64::from(length))
            } else {
                let Some(bytes) = data.get(1..9).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()) else {
                    return Ok(None);
                };
                (9, u64::from_be_bytes(bytes))
            };
            let most = if flags & COMMAND == 0 { self.most - self.bytes } else { MAX_COMMAND_BYTES };
            let size = usize::try_from(length).ok().filter(|size| *size <= most);
            let size = size.ok_or(Malformed::TooLarge { found: length, most })?;
            if data.len() < head + size {
                return Ok(None);
            }
            data.advance(head);
            let body = data.split_to(size).freeze();
            if flags & COMMAND != 0 {
                return command(body).map(Some);
            }
            if self.parts.len() >= MAX_PARTS {
                return Err(Malformed::Parts);
            }
            self.bytes += body.len();
            self.parts.push(body);
            if flags & MORE == 0 {
                self.bytes = 0;
                return Ok(Some(Item::Message(std::mem::take(&mut self.parts))));
            }
        }
    }
}

fn command(mut body: Bytes) -> Result<Item, Malformed> {
    let name = short(&mut body).ok_or(Malformed::Command)?;
    match &name[..] {
        b"READY" => {
            let (mut socket_type, mut identity) = (String::new(), Bytes::new());
            while !body.is_empty() {
                let key = short(&mut body).ok_or(Malformed::Command)?;
                if body.len() < 4 {
                    return Err(Malformed::Command);
                }
                let length = body.get_u32() as usize;
                if body.len() < length {
                    return Err(Malformed::Command);
                }
                let value = body.split_to(length);
                if key.eq_ignore_ascii_case(b"socket-type") {
                    socket_type = String::from_utf8_lossy(&value).into_owned();
                } else if key.eq_ignore_ascii_case(b"identity") {
                    if value.len() > MAX_IDENTITY_BYTES {
                        return Err(Malformed::Command);
                    }
                    identity = value;
                }
            }
            Ok(Item::Ready { socket_type, identity })
        }
        b"ERROR" => {
            let reason = short(&mut body).unwrap_or_default();
            Err(Malformed::Refused(String::from_utf8_lossy(&reason).into_owned()))
        }
        b"PING" => {
            // Two bytes of time to live, then at most 16 of context.
            let context = body.get(2..).filter(|context| context.len() <= 16).ok_or(Malformed::Command)?;
            Ok(Item::Ping(body.slice_ref(context)))
        }
        _ => Ok(Item::Other),
    }
}

/// A string whose length is its first byte.
fn short(body: &mut Bytes) -> Option<Bytes> {
    let length = usize::from(*body.first()?);
    if body.len() < 1 + length {
        return None;
    }
    body.advance(1);
    Some(body.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_ready_command_is_read_back() {
        let mut bytes = BytesMut::new();
        ready("DEALER", b"box_1", &mut bytes);
        message(b"hello", &mut bytes);
        message(&[7; 300], &mut bytes);
        let mut decoder = Decoder::default();
        let ready = Item::Ready { socket_type: "DEALER".to_owned(), identity: Bytes::from_static(b"box_1") };
        assert_eq!(decoder.next(&mut bytes).unwrap(), Some(ready));
        assert_eq!(
            decoder.next(&mut bytes).unwrap(),
            Some(Item::Message(vec![Bytes::from_static(b"hello")]))
        );
        assert_eq!(decoder.next(&mut bytes).unwrap(), Some(Item::Message(vec![Bytes::from(vec![7; 300])])));
        assert_eq!(decoder.next(&mut bytes).unwrap(), None);
    }

    #[test]
    fn a_greeting_is_checked() {
        assert_eq!(check_greeting(&greeting()), Ok(()));
        let mut old = greeting();
        old[10] = 1;
        assert_eq!(check_greeting(&old), Err(Malformed::Version { major: 1, minor: 0 }));
        let mut curve = greeting();
        curve[12..17].copy_from_slice(b"CURVE");
        assert_eq!(check_greeting(&curve), Err(Malformed::Mechanism("CURVE".to_owned())));
        assert_eq!(check_greeting(&[b'G'; 64]), Err(Malformed::Greeting));
    }

    #[test]
    fn a_huge_frame_is_refused_before_it_is_read() {
        let mut bytes = BytesMut::from(&[LONG, 0xff, 0, 0, 0, 0, 0, 0, 0][..]);
        assert!(matches!(Decoder::default().next(&mut bytes), Err(Malformed::TooLarge { .. })));
        // All parts count.
        let mut decoder = Decoder::of_at_most(10);
        let mut bytes = BytesMut::from(&b"\x01\x06abcdef\x00\x05"[..]);
        assert_eq!(decoder.next(&mut bytes), Err(Malformed::TooLarge { found: 5, most: 4 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived_and_cuts_change_nothing(data: Vec<u8>, cut in 0_usize..64) {
            let whole = decode_all(&data, data.len().max(1));
            prop_assert_eq!(&whole, &decode_all(&data, cut + 1));
        }

        #[test]
        fn messages_survive_any_cut(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..6), cut in 1_usize..40) {
            let mut bytes = BytesMut::new();
            bodies.iter().for_each(|body| message(body, &mut bytes));
            let expected: Vec<_> = bodies.iter().map(|body| Item::Message(vec![Bytes::from(body.clone())])).collect();
            prop_assert_eq!(decode_all(&bytes, cut), (expected, None));
        }
    }

    fn decode_all(data: &[u8], step: usize) -> (Vec<Item>, Option<Malformed>) {
        let mut decoder = Decoder::default();
        let mut pending = BytesMut::new();
        let mut items = Vec::new();
        for piece in data.chunks(step) {
            pending.extend_from_slice(piece);
            loop {
                match decoder.next(&mut pending) {
                    Ok(Some(item)) => items.push(item),
                    Ok(None) => break,
                    Err(error) => return (items, Some(error)),
                }
            }
        }
        (items, None)
    }
}
