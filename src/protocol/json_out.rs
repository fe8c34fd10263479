//! Writes the JSON of outgoing frames. The same code runs twice: it is measured, then written into memory of exactly that size, which
//! becomes the frame. Nothing is built in between, not even for the JSON text inside a JSON string.
//!
//! The bytes are those that `serde_json` would write; a test compares.

/// Where JSON goes: to be measured, or to be written.
pub(super) trait Sink {
    /// Text as it is: tokens, or what is escaped already.
    fn raw(&mut self, text: &str);

    /// The characters of a JSON string, without the quotes around them.
    fn escaped(&mut self, text: &str);

    /// A number.
    fn number(&mut self, number: u64);

    /// The characters of a string in a JSON text that itself stands in a string.
    fn escaped_twice(&mut self, text: &str) {
        if growth(text.as_bytes()) == 0 {
            return self.raw(text);
        }
        let mut once = Vec::new();
        escape(text, &mut once);
        self.escaped(str::from_utf8(&once).unwrap_or_default());
    }
}

/// Counts bytes.
#[derive(Default)]
pub(super) struct Length(pub(super) usize);

impl Sink for Length {
    fn raw(&mut self, text: &str) {
        self.0 += text.len();
    }

    fn escaped(&mut self, text: &str) {
        self.0 += text.len() + growth(text.as_bytes());
    }

    fn number(&mut self, number: u64) {
        self.0 += number.checked_ilog10().unwrap_or(0) as usize + 1;
    }
}

impl Sink for Vec<u8> {
    fn raw(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }

    fn escaped(&mut self, text: &str) {
        escape(text, self);
    }

    fn number(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.extend_from_slice(&digits[at..]);
    }
}

/// What follows the backslash, for each byte; 0 for those that stand for themselves, `u` for those that are written as their number.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        table[control] = b'u';
        control += 1;
    }
    table[b'\x08' as usize] = b'b';
    table[b'\t' as usize] = b't';
    table[b'\n' as usize] = b'n';
    table[b'\x0C' as usize] = b'f';
    table[b'\r' as usize] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// How many bytes escaping adds. Counted in pieces whose counts fit a byte, so that the compiler looks at sixteen bytes at a time.
fn growth(text: &[u8]) -> usize {
    let piece = |piece: &[u8]| {
        let quoted: u8 = piece.iter().map(|byte| u8::from(*byte == b'"' || *byte == b'\\')).sum();
        let control: u8 = piece.iter().map(|byte| u8::from(*byte < 0x20)).sum();
        let long = if control == 0 { 0 } else { piece.iter().filter(|byte| ESCAPES[usize::from(**byte)] == b'u').count() };
        usize::from(quoted) + usize::from(control) + 4 * long
    };
    text.chunks(255).map(piece).sum()
}

fn escape(text: &str, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut from = 0;
    if growth(bytes) > 0 {
        for (at, byte) in bytes.iter().enumerate() {
            match ESCAPES[usize::from(*byte)] {
                0 => continue,
                b'u' => {
                    out.extend_from_slice(&bytes[from..at]);
                    let (high, low) = (DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]);
                    out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
                }
                short => {
                    out.extend_from_slice(&bytes[from..at]);
                    out.extend_from_slice(&[b'\\', short]);
                }
            }
            from = at + 1;
        }
    }
    out.extend_from_slice(&bytes[from..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Written, and found as long as it was measured.
    fn written(write: impl Fn(&mut dyn Sink)) -> String {
        let (mut length, mut out) = (Length::default(), Vec::new());
        write(&mut length);
        write(&mut out);
        assert_eq!(out.len(), length.0);
        String::from_utf8(out).unwrap()
    }

    fn by_serde(text: &str) -> String {
        let quoted = serde_json::to_string(text).unwrap();
        quoted[1..quoted.len() - 1].to_owned()
    }

    #[test]
    fn every_byte_is_written_as_serde_writes_it() {
        let all: String = (0..=255_u8).map(char::from).collect();
        assert_eq!(written(|out| out.escaped(&all)), by_serde(&all));
        assert_eq!(written(|out| out.escaped_twice(&all)), by_serde(&by_serde(&all)));
        for length in 0..600 {
            let quotes = "\"\n".repeat(length);
            assert_eq!(written(|out| out.escaped(&quotes)), by_serde(&quotes));
        }
    }

    #[test]
    fn numbers() {
        for number in [0, 7, 10, 4_001, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(written(|out| out.number(number)), number.to_string());
        }
    }

    proptest! {
        #[test]
        fn so_is_every_text(text in "(\\PC|[\"\\\\\u{0}-\u{1F}\u{7F}]){0,400}") {
            prop_assert_eq!(written(|out| out.escaped(&text)), by_serde(&text));
            prop_assert_eq!(written(|out| out.escaped_twice(&text)), by_serde(&by_serde(&text)));
        }
    }
}
