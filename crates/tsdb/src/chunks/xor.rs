//! The XOR chunk encoding: timestamps as deltas of deltas, values as XOR windows; format in `docs/chunk-xor.md`.

use crate::bits::{BitReader, BitWriter};

/// No XOR window has been written yet.
const NO_WINDOW: u8 = 0xff;
/// More samples than this do not fit the count in the chunk's header.
pub const MAX_SAMPLES: u16 = u16::MAX;

/// A chunk that still takes samples.
#[derive(Debug, Clone)]
pub struct XorAppender {
    stream: BitWriter,
    count: u16,
    leading: u8,
    trailing: u8,
    last_t: i64,
    last_delta: u64,
    last_v: f64,
}

impl Default for XorAppender {
    fn default() -> XorAppender {
        XorAppender::new()
    }
}

impl XorAppender {
    /// An empty chunk.
    pub fn new() -> XorAppender {
        XorAppender {
            stream: BitWriter::from_bytes(vec![0, 0]),
            count: 0,
            leading: NO_WINDOW,
            trailing: 0,
            last_t: i64::MIN,
            last_delta: 0,
            last_v: 0.0,
        }
    }

    /// Samples in the chunk.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// The newest sample, if there is one.
    pub fn last(&self) -> Option<(i64, f64)> {
        (self.count > 0).then_some((self.last_t, self.last_v))
    }

    /// The encoded chunk so far.
    pub fn bytes(&self) -> &[u8] {
        self.stream.bytes()
    }

    /// Bytes of heap that the chunk holds.
    pub fn capacity(&self) -> usize {
        self.stream.capacity()
    }

    /// Ends the chunk.
    pub fn finish(self) -> Box<[u8]> {
        self.stream.into_boxed()
    }

    /// Appends one sample; the caller keeps time order. `false` (and no change) when the chunk's count is full.
    pub fn append(&mut self, t: i64, v: f64) -> bool {
        if self.count == MAX_SAMPLES {
            return false;
        }
        match self.count {
            0 => {
                self.stream.write_varint(t);
                self.stream.write_bits(v.to_bits(), 64);
            }
            1 => {
                self.last_delta = t.wrapping_sub(self.last_t) as u64;
                self.stream.write_uvarint(self.last_delta);
                self.write_value(v);
            }
            _ => {
                let delta = t.wrapping_sub(self.last_t) as u64;
                self.write_delta_of_delta(delta.wrapping_sub(self.last_delta) as i64);
                self.last_delta = delta;
                self.write_value(v);
            }
        }
        self.last_t = t;
        self.last_v = v;
        self.count += 1;
        let header = self.count.to_be_bytes();
        if let Some(place) = self.stream.bytes_mut().first_chunk_mut::<2>() {
            *place = header;
        }
        true
    }

    fn write_delta_of_delta(&mut self, dod: i64) {
        if dod == 0 {
            self.stream.write_bit(false);
            return;
        }
        let (prefix, prefix_bits, value_bits) = if fits(dod, 14) {
            (0b10, 2, 14)
        } else if fits(dod, 17) {
            (0b110, 3, 17)
        } else if fits(dod, 20) {
            (0b1110, 4, 20)
        } else {
            (0b1111, 4, 64)
        };
        self.stream.write_bits(prefix, prefix_bits);
        self.stream.write_bits(dod as u64, value_bits);
    }

    fn write_value(&mut self, v: f64) {
        write_xor(
            &mut self.stream,
            v.to_bits() ^ self.last_v.to_bits(),
            &mut self.leading,
            &mut self.trailing,
        );
    }
}

/// Writes the XOR of a value and the one before it, and keeps the window in `leading` and `trailing`.
fn write_xor(stream: &mut BitWriter, xor: u64, window_leading: &mut u8, window_trailing: &mut u8) {
    if xor == 0 {
        stream.write_bit(false);
        return;
    }
    // Five bits hold the number of leading zeros.
    let leading = xor.leading_zeros().min(31) as u8;
    let trailing = xor.trailing_zeros() as u8;
    if *window_leading != NO_WINDOW && leading >= *window_leading && trailing >= *window_trailing {
        stream.write_bits(0b10, 2);
        let significant = 64 - u32::from(*window_leading) - u32::from(*window_trailing);
        stream.write_bits(xor >> *window_trailing, significant);
        return;
    }
    *window_leading = leading;
    *window_trailing = trailing;
    let significant = 64 - u32::from(leading) - u32::from(trailing);
    stream.write_bits(0b11, 2);
    stream.write_bits(u64::from(leading), 5);
    // 64 significant bits are written as 0: six bits cannot hold 64.
    stream.write_bits(u64::from(significant) & 0x3f, 6);
    stream.write_bits(xor >> trailing, significant);
}

/// Reads what [`write_xor`] wrote.
#[inline]
fn read_xor(reader: &mut BitReader<'_>, leading: &mut u32, trailing: &mut u32) -> Option<u64> {
    if !reader.read_bit()? {
        return Some(0);
    }
    if reader.read_bit()? {
        *leading = reader.read_bits(5)? as u32;
        let significant = match reader.read_bits(6)? as u32 {
            0 => 64,
            count => count,
        };
        *trailing = 64u32.checked_sub(*leading + significant)?;
    }
    let significant = 64 - *leading - *trailing;
    Some(reader.read_bits(significant)? << *trailing)
}

/// A column of floats in a stream that it shares with others.
#[derive(Debug, Clone)]
pub(super) struct XorWriter {
    bits: u64,
    leading: u8,
    trailing: u8,
}

impl Default for XorWriter {
    fn default() -> XorWriter {
        XorWriter { bits: 0, leading: NO_WINDOW, trailing: 0 }
    }
}

impl XorWriter {
    pub(super) fn first(&mut self, stream: &mut BitWriter, value: f64) {
        self.bits = value.to_bits();
        stream.write_bits(self.bits, 64);
    }

    pub(super) fn next(&mut self, stream: &mut BitWriter, value: f64) {
        let xor = self.bits ^ value.to_bits();
        self.bits = value.to_bits();
        write_xor(stream, xor, &mut self.leading, &mut self.trailing);
    }
}

/// Reads a column that an [`XorWriter`] wrote.
#[derive(Debug, Clone, Default)]
pub(super) struct XorReader {
    bits: u64,
    leading: u32,
    trailing: u32,
}

impl XorReader {
    pub(super) fn first(&mut self, reader: &mut BitReader<'_>) -> Option<f64> {
        self.bits = reader.read_bits(64)?;
        Some(f64::from_bits(self.bits))
    }

    pub(super) fn next(&mut self, reader: &mut BitReader<'_>) -> Option<f64> {
        self.bits ^= read_xor(reader, &mut self.leading, &mut self.trailing)?;
        Some(f64::from_bits(self.bits))
    }
}

/// Whether `value` is in the (upwards skewed) range that the format gives to `bits` bits.
fn fits(value: i64, bits: u32) -> bool {
    let half = 1i64 << (bits - 1);
    -(half - 1) <= value && value <= half
}

/// Reads the samples of a chunk, oldest first; ends early (see [`XorIter::is_torn`]) when the bytes run out.
#[derive(Debug, Clone)]
pub struct XorIter<'a> {
    reader: BitReader<'a>,
    total: u16,
    read: u16,
    t: i64,
    delta: u64,
    bits: u64,
    leading: u32,
    trailing: u32,
    torn: bool,
}

impl<'a> XorIter<'a> {
    /// Reads `chunk`, which starts with its sample count.
    pub fn new(chunk: &'a [u8]) -> XorIter<'a> {
        let (total, data) = match chunk.split_first_chunk::<2>() {
            Some((count, data)) => (u16::from_be_bytes(*count), data),
            None => (0, &[][..]),
        };
        XorIter {
            reader: BitReader::new(data),
            total,
            read: 0,
            t: 0,
            delta: 0,
            bits: 0,
            leading: 0,
            trailing: 0,
            torn: chunk.len() < 2,
        }
    }

    /// The chunk holds fewer samples than its header says.
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    #[inline]
    fn step(&mut self) -> Option<(i64, f64)> {
        match self.read {
            0 => {
                self.t = self.reader.read_varint()?;
                self.bits = self.reader.read_bits(64)?;
            }
            1 => {
                self.delta = self.reader.read_uvarint()?;
                self.t = self.t.wrapping_add(self.delta as i64);
                self.read_value()?;
            }
            _ => {
                let dod = self.read_delta_of_delta()?;
                self.delta = self.delta.wrapping_add(dod as u64);
                self.t = self.t.wrapping_add(self.delta as i64);
                self.read_value()?;
            }
        }
        self.read += 1;
        Some((self.t, f64::from_bits(self.bits)))
    }

    #[inline]
    fn read_delta_of_delta(&mut self) -> Option<i64> {
        if !self.reader.read_bit()? {
            return Some(0);
        }
        let bits = if !self.reader.read_bit()? {
            14
        } else if !self.reader.read_bit()? {
            17
        } else if !self.reader.read_bit()? {
            20
        } else {
            return self.reader.read_bits(64).map(|raw| raw as i64);
        };
        let raw = self.reader.read_bits(bits)? as i64;
        Some(if raw > 1 << (bits - 1) { raw - (1 << bits) } else { raw })
    }

    #[inline]
    fn read_value(&mut self) -> Option<()> {
        self.bits ^= read_xor(&mut self.reader, &mut self.leading, &mut self.trailing)?;
        Some(())
    }
}

impl Iterator for XorIter<'_> {
    type Item = (i64, f64);

    #[inline]
    fn next(&mut self) -> Option<(i64, f64)> {
        if self.read == self.total || self.torn {
            return None;
        }
        let sample = self.step();
        self.torn = sample.is_none();
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(samples: &[(i64, f64)]) {
        let mut appender = XorAppender::new();
        for (t, v) in samples {
            assert!(appender.append(*t, *v));
        }
        let read: Vec<_> = XorIter::new(appender.bytes()).map(|(t, v)| (t, v.to_bits())).collect();
        let wrote: Vec<_> = samples.iter().map(|(t, v)| (*t, v.to_bits())).collect();
        assert_eq!(read, wrote);
    }

    #[test]
    fn every_bucket_of_the_time_encoding() {
        let mut t = 1_700_000_000_000;
        let mut samples = vec![(t, 1.0)];
        let mut delta = 15_000;
        for dod in
            [0, 1, -1, 8191, 8192, -8191, -8192, 65536, -65535, 65537, 524288, -524287, 524289, 1 << 40]
        {
            delta += dod;
            t += delta;
            samples.push((t, t as f64 / 3.0));
        }
        round_trip(&samples);
    }

    #[test]
    fn every_kind_of_value() {
        let values = [
            0.0,
            -0.0,
            1.0,
            1.0,
            f64::NAN,
            f64::from_bits(0x7ff0_0000_0000_0002),
            f64::INFINITY,
            -1.5e300,
            5e-324,
        ];
        let samples: Vec<_> = values.iter().enumerate().map(|(i, v)| (i as i64 * 1000, *v)).collect();
        round_trip(&samples);
        round_trip(&[]);
        round_trip(&[(i64::MIN, 1.0), (i64::MAX, 2.0), (i64::MAX, 2.0)]);
    }

    #[test]
    fn the_bytes_of_a_small_chunk() {
        let mut appender = XorAppender::new();
        for (t, v) in [(1000, 1.0), (2000, 1.0), (3000, 1.0)] {
            appender.append(t, v);
        }
        // count 3; varint 1000; 1.0; uvarint 1000 + bit 0 (same value); bits 0 (dod) 0 (value)
        let expected = [0, 3, 0xd0, 0x0f, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0xe8, 0x07, 0b0000_0000];
        assert_eq!(appender.bytes(), expected);
    }

    #[test]
    fn a_torn_chunk_ends_early() {
        let mut appender = XorAppender::new();
        for i in 0..100 {
            appender.append(i * 15_000 + i % 7, (i as f64).sin());
        }
        let bytes = appender.finish();
        for len in 0..bytes.len() {
            let mut iter = XorIter::new(&bytes[..len]);
            assert!(iter.by_ref().count() < 100);
            assert!(iter.is_torn());
        }
    }
}
