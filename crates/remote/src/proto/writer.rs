//! Writes fields into one buffer; fields that are zero or empty are left out, as proto3 does.

/// A message that grows.
#[derive(Debug, Default, Clone)]
pub struct Writer {
    bytes: Vec<u8>,
}

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;

impl Writer {
    /// An empty message.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// What is written so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The message.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn key(&mut self, number: u32, wire_type: u64) {
        self.raw_varint(u64::from(number) << 3 | wire_type);
    }

    /// A number, a bool or an enum.
    pub fn varint(&mut self, number: u32, value: u64) {
        if value != 0 {
            self.key(number, VARINT);
            self.raw_varint(value);
        }
    }

    /// An `int64`.
    pub fn int(&mut self, number: u32, value: i64) {
        self.varint(number, value as u64);
    }

    /// A `sint`.
    pub fn signed(&mut self, number: u32, value: i64) {
        self.varint(number, zigzag(value));
    }

    /// A double.
    pub fn double(&mut self, number: u32, value: f64) {
        // Only +0.0 is the default; -0.0 is a value.
        if value.to_bits() != 0 {
            self.present_double(number, value);
        }
    }

    /// A double of a `oneof`, which is written even when it is zero.
    pub fn present_double(&mut self, number: u32, value: f64) {
        self.key(number, FIXED64);
        self.bytes.extend_from_slice(&value.to_bits().to_le_bytes());
    }

    /// A text.
    pub fn text(&mut self, number: u32, value: &str) {
        if !value.is_empty() {
            self.message(number, value.as_bytes());
        }
    }

    /// An element of a repeated text field, or bytes; written even when empty.
    pub fn message(&mut self, number: u32, value: &[u8]) {
        self.key(number, BYTES);
        self.raw_varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    /// A message within this one.
    pub fn nested(&mut self, number: u32, write: impl FnOnce(&mut Writer)) {
        self.key(number, BYTES);
        let start = self.bytes.len();
        write(self);
        // The length stands before what is only known now; messages here are small, so they are moved.
        let length = (self.bytes.len() - start) as u64;
        let mut prefix = [0u8; 10];
        let mut used = 0;
        let mut left = length;
        while left >= 0x80 {
            prefix[used] = left as u8 | 0x80;
            left >>= 7;
            used += 1;
        }
        prefix[used] = left as u8;
        self.bytes.splice(start..start, prefix[..=used].iter().copied());
    }

    /// Numbers, packed.
    pub fn packed(&mut self, number: u32, values: impl IntoIterator<Item = u64>) {
        self.nested_unless_empty(number, |inner| {
            for value in values {
                inner.raw_varint(value);
            }
        });
    }

    /// `sint64`s, packed.
    pub fn packed_signed(&mut self, number: u32, values: &[i64]) {
        self.packed(number, values.iter().map(|value| zigzag(*value)));
    }

    /// Doubles, packed.
    pub fn packed_doubles(&mut self, number: u32, values: &[f64]) {
        self.nested_unless_empty(number, |inner| {
            for value in values {
                inner.bytes.extend_from_slice(&value.to_bits().to_le_bytes());
            }
        });
    }

    fn nested_unless_empty(&mut self, number: u32, write: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        let mut inner = Writer::new();
        write(&mut inner);
        if inner.bytes.is_empty() {
            self.bytes.truncate(start);
        } else {
            self.message(number, &inner.bytes);
        }
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[cfg(test)]
mod tests {
    use super::super::{Field, Message};
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::new();
        writer.varint(1, 0);
        writer.int(2, -1);
        writer.signed(3, -2);
        writer.double(4, -0.0);
        writer.text(5, "x");
        writer.nested(6, |inner| inner.text(1, &"y".repeat(300)));
        writer.packed(7, [1, 300]);
        writer.packed(8, []);
        let mut message = Message::new(writer.as_bytes());
        let mut fields = Vec::new();
        while let Some(field) = message.next().unwrap() {
            fields.push(field);
        }
        assert_eq!(fields[0], (2, Field::Varint(u64::MAX)));
        assert_eq!(fields[1], (3, Field::Varint(3)));
        assert_eq!(fields[2], (4, Field::Fixed64((-0.0f64).to_bits())));
        assert_eq!(fields[3], (5, Field::Bytes(b"x")));
        let (6, Field::Bytes(inner)) = fields[4] else { panic!("{:?}", fields[4]) };
        assert_eq!(inner.len(), 303);
        assert_eq!(fields[5], (7, Field::Bytes(&[1, 0xac, 2])));
        assert_eq!(fields.len(), 6);
    }
}
