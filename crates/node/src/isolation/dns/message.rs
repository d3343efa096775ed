//! DNS messages (RFC 1035): one question in, answers out. What is not understood is an error code, never a panic.

use std::net::Ipv4Addr;

pub(crate) const A: u16 = 1;
pub(crate) const CNAME: u16 = 5;
pub(crate) const PTR: u16 = 12;
pub(crate) const AAAA: u16 = 28;
pub(crate) const SRV: u16 = 33;
pub(crate) const ANY: u16 = 255;
const OPT: u16 = 41;
const IN: u16 = 1;
const HEADER: usize = 12;
/// What a datagram may hold when its sender does not say.
const PLAIN_BYTES: usize = 512;
const NAME_BYTES: usize = 255;
/// As names of Services change: at once, so nobody may keep them long.
const TTL_SECONDS: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    NoError = 0,
    FormatError = 1,
    ServerFailure = 2,
    NoSuchName = 3,
    NotImplemented = 4,
}

/// The question of a query, and where it ends in the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// Lower case, without the last dot.
    pub(crate) name: String,
    pub(crate) kind: u16,
    end: usize,
    /// The largest datagram that the sender takes.
    pub(crate) datagram_bytes: usize,
}

/// One record of an answer, about the name that was asked for unless it says another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Address(Ipv4Addr),
    Alias(String),
    Pointer(String),
    Server { port: u16, target: String },
}

impl Query {
    /// `Err` is the code to answer with; `None` when the message is not a query at all.
    pub(crate) fn parse(message: &[u8]) -> Option<Result<Query, Code>> {
        let header = message.get(..HEADER)?;
        let is_response = header[2] & 0x80 != 0;
        if is_response {
            return None;
        }
        let opcode = header[2] >> 3 & 0x0f;
        let questions = u16::from_be_bytes([header[4], header[5]]);
        if opcode != 0 {
            return Some(Err(Code::NotImplemented));
        }
        if questions != 1 {
            return Some(Err(Code::FormatError));
        }
        Some(Query::question(message).ok_or(Code::FormatError))
    }

    fn question(message: &[u8]) -> Option<Query> {
        let mut name = String::new();
        let mut at = HEADER;
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            // A question's name is never compressed: there is nothing before it to point at.
            if length > 63 || name.len() + length > NAME_BYTES {
                return None;
            }
            if !name.is_empty() {
                name.push('.');
            }
            for byte in message.get(at..at + length)? {
                let letter = byte.to_ascii_lowercase();
                let is_plain = letter.is_ascii_graphic() && letter != b'.';
                name.push(if is_plain { char::from(letter) } else { '?' });
            }
            at += length;
        }
        let kind = u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?);
        let end = at + 4;
        message.get(..end)?;
        // An OPT record has the root's name, its type and the sender's size as its class.
        let additional = u16::from_be_bytes([message[10], message[11]]);
        let size = match message.get(end..end + 5) {
            Some([0, high, low, size @ ..]) if additional > 0 && u16::from_be_bytes([*high, *low]) == OPT => {
                usize::from(u16::from_be_bytes([size[0], size[1]])).max(PLAIN_BYTES)
            }
            _ => PLAIN_BYTES,
        };
        Some(Query { name, kind, end, datagram_bytes: size })
    }
}

/// The answer to `message`, whose question is `query`. Records that do not fit into `most_bytes` are left out, and the
/// answer says so.
pub(crate) fn answer(
    message: &[u8],
    query: &Query,
    code: Code,
    records: &[Record],
    most_bytes: usize,
) -> Vec<u8> {
    let mut out = head(message, code, 1);
    out.extend(&message[HEADER..query.end]);
    let mut count: u16 = 0;
    // Addresses after an alias are the alias' own.
    let mut owner = vec![0xc0, HEADER as u8];
    for record in records {
        let before = out.len();
        let data = match record {
            Record::Address(address) => address.octets().to_vec(),
            Record::Alias(name) | Record::Pointer(name) => encode_name(name),
            Record::Server { port, target } => {
                let mut data = vec![0, 0, 0, 10];
                data.extend(port.to_be_bytes());
                data.extend(encode_name(target));
                data
            }
        };
        out.extend(&owner);
        out.extend(record.kind().to_be_bytes());
        out.extend(IN.to_be_bytes());
        out.extend(TTL_SECONDS.to_be_bytes());
        out.extend(u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
        out.extend(&data);
        if out.len() > most_bytes || count == u16::MAX {
            out.truncate(before);
            out[2] |= 0x02;
            break;
        }
        count += 1;
        if let Record::Alias(name) = record {
            owner = encode_name(name);
        }
    }
    out[6..8].copy_from_slice(&count.to_be_bytes());
    out
}

/// An answer that only says what is wrong.
pub(crate) fn refusal(message: &[u8], code: Code) -> Vec<u8> {
    head(message, code, 0)
}

/// The query's id and wish for recursion, as a response with authority.
fn head(message: &[u8], code: Code, questions: u16) -> Vec<u8> {
    let field = |at: usize| message.get(at).copied().unwrap_or(0);
    let mut out = vec![field(0), field(1), 0x84 | (field(2) & 0x79), 0x80 | code as u8];
    out.extend(questions.to_be_bytes());
    out.resize(HEADER, 0);
    out
}

fn encode_name(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        out.push(label.len() as u8);
        out.extend(label);
    }
    out.push(0);
    out
}

impl Record {
    fn kind(&self) -> u16 {
        match self {
            Record::Address(_) => A,
            Record::Alias(_) => CNAME,
            Record::Pointer(_) => PTR,
            Record::Server { .. } => SRV,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(encode_name(name));
        message.extend(kind.to_be_bytes());
        message.extend(IN.to_be_bytes());
        message
    }

    #[test]
    fn a_question_is_read_and_answered() {
        let message = query("Catalog.Shop.svc.cluster.local.", A);
        let asked = Query::parse(&message).unwrap().unwrap();
        assert_eq!((asked.name.as_str(), asked.kind), ("catalog.shop.svc.cluster.local", A));
        let records = [Record::Address(Ipv4Addr::new(10, 77, 64, 5))];
        let text = answer(&message, &asked, Code::NoError, &records, 512);
        assert_eq!(&text[..8], &[0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1]);
        assert_eq!(&text[text.len() - 16..], &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 77, 64, 5]);
        assert_eq!(Query::parse(&text), None, "an answer is no query");
    }

    #[test]
    fn what_does_not_fit_is_said_to_be_left_out() {
        let message = query("web.shop", A);
        let asked = Query::parse(&message).unwrap().unwrap();
        let records = vec![Record::Address(Ipv4Addr::LOCALHOST); 100];
        let text = answer(&message, &asked, Code::NoError, &records, asked.datagram_bytes);
        assert!(text.len() <= 512 && text[2] & 2 == 2, "{}", text.len());
        let whole = answer(&message, &asked, Code::NoError, &records, usize::from(u16::MAX));
        assert_eq!((whole[2] & 2, u16::from_be_bytes([whole[6], whole[7]])), (0, 100));
    }

    #[test]
    fn the_senders_size_is_heard() {
        let mut message = query("a.b", A);
        message[11] = 1;
        message.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Query::parse(&message).unwrap().unwrap().datagram_bytes, 4_096);
    }

    proptest! {
        #[test]
        fn no_message_makes_a_panic(mut message in prop::collection::vec(any::<u8>(), 0..600), plain in any::<bool>()) {
            if plain && message.len() > 6 {
                message[2] = 0;
                message[4] = 0;
                message[5] = 1;
            }
            if let Some(Ok(query)) = Query::parse(&message) {
                let records = [Record::Server { port: 1, target: "x.y".into() }];
                answer(&message, &query, Code::NoError, &records, 512);
            }
            refusal(&message, Code::FormatError);
        }
    }
}
