//! Byte-level reading and writing shared by the log, the index and the blocks: varints, big-endian numbers, strings.

/// Appends numbers and strings to a buffer.
pub(crate) trait Put {
    fn put_u8(&mut self, value: u8);
    fn put_be64(&mut self, value: u64);
    fn put_uvarint(&mut self, value: u64);
    fn put_varint(&mut self, value: i64);
    fn put_str(&mut self, value: &str);
    fn put_f64(&mut self, value: f64) {
        self.put_be64(value.to_bits());
    }
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_be64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn put_varint(&mut self, value: i64) {
        self.put_uvarint(((value << 1) ^ (value >> 63)) as u64);
    }

    fn put_str(&mut self, value: &str) {
        self.put_uvarint(value.len() as u64);
        self.extend_from_slice(value.as_bytes());
    }
}

/// A cursor over bytes; every read past the end is `None`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Get<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Get<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Get<'a> {
        Get { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    pub(crate) fn be64(&mut self) -> Option<u64> {
        let (head, rest) = self.rest.split_first_chunk::<8>()?;
        self.rest = rest;
        Some(u64::from_be_bytes(*head))
    }

    pub(crate) fn f64(&mut self) -> Option<f64> {
        self.be64().map(f64::from_bits)
    }

    pub(crate) fn uvarint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (index, byte) in self.rest.iter().enumerate().take(10) {
            if index == 9 && *byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn varint(&mut self) -> Option<i64> {
        let raw = self.uvarint()?;
        Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// A count of things of which each takes at least `unit` bytes, so that a forged count cannot make us
    /// reserve more than the input holds.
    pub(crate) fn count(&mut self, unit: usize) -> Option<usize> {
        let count = usize::try_from(self.uvarint()?).ok()?;
        (count.checked_mul(unit.max(1))? <= self.rest.len()).then_some(count)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(head)
    }

    pub(crate) fn str(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.uvarint()?).ok()?;
        std::str::from_utf8(self.bytes(len)?).ok()
    }
}
