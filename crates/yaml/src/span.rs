//! Where a node stood in its source: file, line and column in eight bytes.

/// Index of a source file in the table of whoever reads several files in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileId(pub u16);

/// A position in a source file. The zero span means "made by the program, not read".
///
/// Sixteen bits of file, twenty-eight of line, twenty of column; larger positions saturate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(u64);

const LINE_BITS: u32 = 28;
const COLUMN_BITS: u32 = 20;

impl Span {
    pub const NONE: Span = Span(0);

    /// `line` and `column` count from 1.
    pub fn new(file: FileId, line: usize, column: usize) -> Span {
        let line = (line as u64).min((1 << LINE_BITS) - 1);
        let column = (column as u64).min((1 << COLUMN_BITS) - 1);
        Span((u64::from(file.0) << (LINE_BITS + COLUMN_BITS)) | (line << COLUMN_BITS) | column)
    }

    pub fn is_none(self) -> bool {
        self.line() == 0
    }

    /// The same position in another file; "made by the program" stays so.
    pub fn in_file(self, file: FileId) -> Span {
        if self.is_none() { self } else { Span::new(file, self.line(), self.column()) }
    }

    pub fn file(self) -> FileId {
        FileId((self.0 >> (LINE_BITS + COLUMN_BITS)) as u16)
    }

    /// Counted from 1; 0 for [`Span::NONE`].
    pub fn line(self) -> usize {
        ((self.0 >> COLUMN_BITS) & ((1 << LINE_BITS) - 1)) as usize
    }

    /// Counted from 1; 0 for [`Span::NONE`].
    pub fn column(self) -> usize {
        (self.0 & ((1 << COLUMN_BITS) - 1)) as usize
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file().0, self.line(), self.column())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_keeps_its_three_numbers() {
        let span = Span::new(FileId(7), 1_000_000, 999);
        assert_eq!((span.file(), span.line(), span.column()), (FileId(7), 1_000_000, 999));
        assert!(!span.is_none());
        assert_eq!(span.in_file(FileId(9)), Span::new(FileId(9), 1_000_000, 999));
        assert!(Span::NONE.in_file(FileId(9)).is_none());
        assert!(Span::NONE.is_none());
    }
}
