//! A growable bit stream, most significant bit first, as the chunk encodings of Prometheus use it.

/// Appends bits to a byte buffer. The unused low bits of the last byte are zero.
#[derive(Debug, Clone, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    /// Free low bits in the last byte, 0 when it is full or the buffer is empty.
    free: u8,
}

impl BitWriter {
    /// Continues a byte buffer whose bits are all used.
    pub fn from_bytes(bytes: Vec<u8>) -> BitWriter {
        BitWriter { bytes, free: 0 }
    }

    /// The bytes written so far, the last one padded with zero bits.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives the buffer up, without its spare capacity.
    pub fn into_boxed(self) -> Box<[u8]> {
        self.bytes.into_boxed_slice()
    }

    /// Bytes of heap that the buffer holds.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The first bytes, for headers that are patched in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Makes room for `additional` bytes in steps of 32, instead of doubling: an open chunk exists once per
    /// active series, so its slack is paid a million times.
    fn reserve(&mut self, additional: usize) {
        if self.bytes.capacity() - self.bytes.len() < additional {
            self.bytes.reserve_exact(additional.max(32));
        }
    }

    /// Appends one bit.
    pub fn write_bit(&mut self, bit: bool) {
        self.write_bits(u64::from(bit), 1);
    }

    /// Appends one byte, across a byte boundary if need be.
    pub fn write_byte(&mut self, byte: u8) {
        self.write_bits(u64::from(byte), 8);
    }

    /// Appends the low `count` bits of `value` (at most 64), the most significant first.
    pub fn write_bits(&mut self, value: u64, count: u32) {
        let mut left = count.min(64);
        if left == 0 {
            return;
        }
        let mut rest = if left == 64 { value } else { value & ((1 << left) - 1) };
        if self.free > 0
            && let Some(last) = self.bytes.last_mut()
        {
            let free = u32::from(self.free);
            if left <= free {
                *last |= (rest << (free - left)) as u8;
                self.free -= left as u8;
                return;
            }
            left -= free;
            *last |= (rest >> left) as u8;
            rest &= (1 << left) - 1;
            self.free = 0;
        }
        self.reserve(left.div_ceil(8) as usize);
        while left >= 8 {
            left -= 8;
            self.bytes.push((rest >> left) as u8);
        }
        if left > 0 {
            self.bytes.push(((rest & ((1 << left) - 1)) << (8 - left)) as u8);
            self.free = 8 - left as u8;
        }
    }

    /// Appends an unsigned LEB128 number, byte by byte.
    pub fn write_uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.write_byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.write_byte(value as u8);
    }

    /// Appends a zig-zag LEB128 number, byte by byte.
    pub fn write_varint(&mut self, value: i64) {
        self.write_uvarint(((value << 1) ^ (value >> 63)) as u64);
    }
}

/// Reads what a [`BitWriter`] wrote. Every read past the end is `None`.
#[derive(Debug, Clone)]
pub struct BitReader<'a> {
    rest: &'a [u8],
    /// Loaded bits, right-aligned; the low `valid` ones are unread.
    window: u64,
    valid: u32,
}

impl<'a> BitReader<'a> {
    /// Reads from the first bit of `bytes`.
    pub fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { rest: bytes, window: 0, valid: 0 }
    }

    #[inline]
    fn refill(&mut self) -> Option<()> {
        if let Some((head, tail)) = self.rest.split_first_chunk::<8>() {
            self.window = u64::from_be_bytes(*head);
            self.valid = 64;
            self.rest = tail;
            return Some(());
        }
        if self.rest.is_empty() {
            return None;
        }
        self.window = self.rest.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
        self.valid = self.rest.len() as u32 * 8;
        self.rest = &[];
        Some(())
    }

    /// Reads one bit.
    #[inline]
    pub fn read_bit(&mut self) -> Option<bool> {
        if self.valid == 0 {
            self.refill()?;
        }
        self.valid -= 1;
        Some(self.window >> self.valid & 1 == 1)
    }

    /// Reads `count` bits (at most 64), right-aligned.
    #[inline]
    pub fn read_bits(&mut self, count: u32) -> Option<u64> {
        if count == 0 {
            return Some(0);
        }
        if count > 64 {
            return None;
        }
        if self.valid == 0 {
            self.refill()?;
        }
        if count <= self.valid {
            self.valid -= count;
            return Some((self.window >> self.valid) & mask(count));
        }
        let high_count = self.valid;
        let high = self.window & mask(high_count);
        let low_count = count - high_count;
        self.refill()?;
        if low_count > self.valid {
            return None;
        }
        self.valid -= low_count;
        let low = (self.window >> self.valid) & mask(low_count);
        // `low_count` is 64 only if `high_count` is 0, which the refill above excludes.
        Some(high << low_count | low)
    }

    /// Reads an unsigned LEB128 number.
    pub fn read_uvarint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.read_bits(8)?;
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// Reads a zig-zag LEB128 number.
    pub fn read_varint(&mut self) -> Option<i64> {
        let raw = self.read_uvarint()?;
        Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }
}

fn mask(count: u32) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut state = 7u64;
        let mut items = Vec::new();
        for _ in 0..2000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let count = (state >> 33) as u32 % 65;
            let value = state.rotate_left(17) & mask(count);
            items.push((value, count));
        }
        let mut writer = BitWriter::default();
        for (value, count) in &items {
            writer.write_bits(*value, *count);
        }
        writer.write_varint(-12345678901);
        writer.write_uvarint(u64::MAX);
        let mut reader = BitReader::new(writer.bytes());
        for (value, count) in &items {
            assert_eq!(reader.read_bits(*count), Some(*value));
        }
        assert_eq!(reader.read_varint(), Some(-12345678901));
        assert_eq!(reader.read_uvarint(), Some(u64::MAX));
    }

    #[test]
    fn the_end_is_an_answer_not_a_panic() {
        let mut reader = BitReader::new(&[0xff; 9]);
        assert_eq!(reader.read_bits(70), None);
        assert_eq!(reader.read_bits(64), Some(u64::MAX));
        assert_eq!(reader.read_bits(9), None);
        let mut endless = BitReader::new(&[0xff; 12]);
        assert_eq!(endless.read_uvarint(), None);
    }
}
