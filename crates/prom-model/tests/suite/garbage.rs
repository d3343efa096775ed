//! No input makes a parser panic, and what is accepted stays within the text.

use gantry_prom_model::{
    Entry, ExpositionFormat, ExpositionParser, LabelsBuilder, MatchOp, Matcher, check_open_metrics,
    parse_float,
};

/// Pieces that reach deep into the grammar when put together at random.
const PIECES: [&str; 34] = [
    "a",
    "_total",
    "_bucket",
    "{",
    "}",
    "=",
    "\"",
    ",",
    " ",
    "\n",
    "#",
    "# TYPE ",
    "# HELP ",
    "# UNIT ",
    "# EOF",
    "1",
    "-",
    ".5",
    "e3",
    "NaN",
    "+Inf",
    "le",
    "\\",
    "\\\"",
    "é",
    "\t",
    "\r",
    "counter",
    "histogram",
    "info",
    "quantile",
    " # {",
    "0x",
    "\u{0}",
];

struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }

    fn text(&mut self, max_pieces: usize) -> String {
        let count = self.next(max_pieces);
        (0..count).map(|_| PIECES[self.next(PIECES.len())]).collect()
    }
}

#[test]
fn parsers_answer_any_text() {
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    let mut accepted = 0;
    for _ in 0..15_000 {
        let text = random.text(24);
        for format in [ExpositionFormat::Classic, ExpositionFormat::OpenMetrics] {
            let mut parser = ExpositionParser::new(&text, format);
            let mut builder = LabelsBuilder::new();
            while let Ok(Some(entry)) = parser.next_entry() {
                if let Entry::Sample(sample) = entry {
                    assert!(text.contains(sample.series));
                    parser.read_labels(&mut builder);
                    assert!(!builder.is_empty());
                    accepted += 1;
                }
            }
        }
        let _ = check_open_metrics(&text);
        let _ = Matcher::new(MatchOp::Regex, "l", &text).map(|matcher| matcher.matches("a1"));
        let _ = parse_float(&text);
    }
    assert!(accepted > 10, "the pieces should make some valid samples, made {accepted}");
}
