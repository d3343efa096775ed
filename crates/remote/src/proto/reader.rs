//! Reads the fields of a message, one after the other, without copying.

/// A message that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It ends within a field.
    #[error("the message is cut off")]
    CutOff,
    /// A varint of more than ten bytes.
    #[error("a number has too many bytes")]
    LongNumber,
    /// A field number or wire type that does not exist.
    #[error("field {number} has the unknown wire type {wire_type}")]
    UnknownType {
        /// The field.
        number: u64,
        /// Its wire type.
        wire_type: u8,
    },
    /// A field is not of the type that the schema says.
    #[error("field {0} has the wrong type")]
    WrongType(u32),
    /// A text is not UTF-8.
    #[error("field {0} is not UTF-8")]
    NotUtf8(u32),
    /// What the schema cannot say is broken.
    #[error("{0}")]
    Invalid(String),
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Field<'b> {
    /// A number, a bool or an enum.
    Varint(u64),
    /// Eight bytes: a double or a fixed number.
    Fixed64(u64),
    /// Four bytes.
    Fixed32(u32),
    /// A text, bytes, a message or packed numbers.
    Bytes(&'b [u8]),
}

impl<'b> Field<'b> {
    /// A number.
    ///
    /// # Errors
    /// When it is something else; `number` is the field's, for the message.
    pub fn varint(self, number: u32) -> Result<u64, WireError> {
        match self {
            Field::Varint(value) => Ok(value),
            _ => Err(WireError::WrongType(number)),
        }
    }

    /// A double.
    ///
    /// # Errors
    /// As [`varint`](Self::varint).
    pub fn double(self, number: u32) -> Result<f64, WireError> {
        match self {
            Field::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(WireError::WrongType(number)),
        }
    }

    /// A fixed number of eight bytes.
    ///
    /// # Errors
    /// As [`varint`](Self::varint).
    pub fn fixed64(self, number: u32) -> Result<u64, WireError> {
        match self {
            Field::Fixed64(bits) => Ok(bits),
            _ => Err(WireError::WrongType(number)),
        }
    }

    /// Bytes or a message.
    ///
    /// # Errors
    /// As [`varint`](Self::varint).
    pub fn bytes(self, number: u32) -> Result<&'b [u8], WireError> {
        match self {
            Field::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::WrongType(number)),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// As [`varint`](Self::varint), and when it is not UTF-8.
    pub fn text(self, number: u32) -> Result<&'b str, WireError> {
        text(self.bytes(number)?, number)
    }
}

/// A text of these bytes.
pub(crate) fn text(bytes: &[u8], number: u32) -> Result<&str, WireError> {
    std::str::from_utf8(bytes).map_err(|_| WireError::NotUtf8(number))
}

/// The number that a `sint` field encodes.
pub(crate) fn zigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

/// The fields of a message.
#[derive(Debug, Clone, Copy)]
pub struct Message<'b> {
    rest: &'b [u8],
}

impl<'b> Message<'b> {
    /// Over a message's bytes.
    pub fn new(bytes: &'b [u8]) -> Message<'b> {
        Message { rest: bytes }
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let Some((byte, rest)) = self.rest.split_first() else { return Err(WireError::CutOff) };
            self.rest = rest;
            // Bits beyond 64 are dropped, as all readers do.
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::LongNumber)
    }

    fn take(&mut self, count: u64) -> Result<&'b [u8], WireError> {
        let count = usize::try_from(count).map_err(|_| WireError::CutOff)?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(WireError::CutOff)?;
        self.rest = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::CutOff)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// The next field with its number; `None` at the end.
    ///
    /// # Errors
    /// When the bytes are no message.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<(u32, Field<'b>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let (number, wire_type) = (key >> 3, (key & 7) as u8);
        let known = u32::try_from(number).ok().filter(|number| *number > 0 && *number < 1 << 29);
        let value = match wire_type {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.fixed()?)),
            _ => return Err(WireError::UnknownType { number, wire_type }),
        };
        let number = known.ok_or(WireError::UnknownType { number, wire_type })?;
        Ok(Some((number, value)))
    }
}

/// Adds the numbers of a repeated field, packed or not.
pub(crate) fn packed_varints(field: Field<'_>, number: u32, into: &mut Vec<u64>) -> Result<(), WireError> {
    match field {
        Field::Varint(value) => into.push(value),
        Field::Bytes(bytes) => {
            let mut message = Message::new(bytes);
            while !message.rest.is_empty() {
                into.push(message.varint()?);
            }
        }
        _ => return Err(WireError::WrongType(number)),
    }
    Ok(())
}

/// As [`packed_varints`] for `sint64`.
pub(crate) fn packed_signed(field: Field<'_>, number: u32, into: &mut Vec<i64>) -> Result<(), WireError> {
    match field {
        Field::Varint(value) => into.push(zigzag(value)),
        Field::Bytes(bytes) => {
            let mut message = Message::new(bytes);
            while !message.rest.is_empty() {
                into.push(zigzag(message.varint()?));
            }
        }
        _ => return Err(WireError::WrongType(number)),
    }
    Ok(())
}

/// As [`packed_varints`] for doubles.
pub(crate) fn packed_doubles(field: Field<'_>, number: u32, into: &mut Vec<f64>) -> Result<(), WireError> {
    match field {
        Field::Fixed64(bits) => into.push(f64::from_bits(bits)),
        Field::Bytes(bytes) => {
            let (chunks, rest) = bytes.as_chunks::<8>();
            if !rest.is_empty() {
                return Err(WireError::CutOff);
            }
            into.extend(chunks.iter().map(|chunk| f64::from_le_bytes(*chunk)));
        }
        _ => return Err(WireError::WrongType(number)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_is_refused() {
        for (bytes, error) in [
            (&[0x08][..], WireError::CutOff),
            (&[0x12, 0x05, 1, 2], WireError::CutOff),
            (&[0x09, 1, 2], WireError::CutOff),
            (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], WireError::LongNumber),
            (&[0x0b], WireError::UnknownType { number: 1, wire_type: 3 }),
            (&[0x00, 0x01], WireError::UnknownType { number: 0, wire_type: 0 }),
        ] {
            assert_eq!(Message::new(bytes).next(), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn repeated_numbers_are_read_packed_and_not() {
        let mut numbers = Vec::new();
        packed_varints(Field::Varint(300), 1, &mut numbers).unwrap();
        packed_varints(Field::Bytes(&[1, 0xac, 2]), 1, &mut numbers).unwrap();
        assert_eq!(numbers, [300, 1, 300]);
        let mut signed = Vec::new();
        packed_signed(Field::Bytes(&[0, 1, 2, 3]), 1, &mut signed).unwrap();
        assert_eq!(signed, [0, -1, 1, -2]);
        assert!(packed_doubles(Field::Bytes(&[0; 9]), 1, &mut Vec::new()).is_err());
    }
}
