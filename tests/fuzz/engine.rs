//! The mutator, and the loop around a target.

use std::{
    collections::{BTreeSet, hash_map::DefaultHasher},
    fs,
    hash::{Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

// The library's own tests use this file, too, and have no other.
#[allow(clippy::duplicate_mod)]
#[path = "../faults/dice.rs"]
mod dice;

pub(crate) use dice::Dice;

/// Longest input that is made.
const MAX_INPUT: usize = 64 * 1024;
/// Inputs that are mutated further.
const MAX_POOL: usize = 2_000;

/// What any text may have to bear: characters that readers disagree about, numbers that do not fit, brackets.
const NASTY: [&str; 40] = [
    "\0",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{200b}",
    "\u{2028}",
    "\u{202e}",
    "\u{feff}",
    "\u{fffd}",
    "\u{10ffff}",
    "e\u{301}",
    "İ",
    "ß",
    "🦀",
    "\r\n",
    "\n",
    "\\",
    "\"",
    "'",
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "\\ud83e\\udd80",
    "\\u00e9",
    "\\/",
    "-0",
    "1e400",
    "1E-7",
    "00",
    "9007199254740993",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "null",
    "true",
    "{}",
    "[]",
    "%00",
    "%ff",
    "%0d%0a",
    "../",
];
/// Bytes that are no text.
const BROKEN: [&[u8]; 6] = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80"];

/// One target: what it is called, and what its inputs look like.
pub(crate) struct Fuzz {
    target: &'static str,
    pool: Vec<Vec<u8>>,
    tokens: Vec<Vec<u8>>,
}

impl Fuzz {
    /// A target with the inputs that are kept for it.
    pub(crate) fn new(target: &'static str) -> Fuzz {
        let entries = fs::read_dir(corpus(target)).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
        let mut paths: Vec<PathBuf> = entries.unwrap_or_default();
        paths.sort();
        let pool = paths.iter().map(|path| fs::read(path).expect("a kept input can be read")).collect();
        let tokens = NASTY.iter().map(|text| text.as_bytes()).chain(BROKEN).map(<[u8]>::to_vec).collect();
        Fuzz { target, pool, tokens }
    }

    /// Inputs to begin with.
    pub(crate) fn seeds(mut self, seeds: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Fuzz {
        self.pool.extend(seeds.into_iter().map(|seed| seed.as_ref().to_vec()));
        self
    }

    /// Words of the language that the target reads.
    pub(crate) fn tokens(mut self, tokens: &[&str]) -> Fuzz {
        // More often than what is only nasty.
        for _ in 0..2 {
            self.tokens.extend(tokens.iter().map(|token| token.as_bytes().to_vec()));
        }
        self
    }

    /// Tries all that is kept, and then so many mutations. `check` panics if something does not hold; what it gives back names the kind
    /// of answer, in a few words: an input that leads to a new kind is mutated further.
    pub(crate) fn run(mut self, runs: usize, check: impl Fn(&[u8]) -> String) {
        let seed = number("HOLDLINE_FUZZ_SEED").unwrap_or(0x5eed);
        let runs = number("HOLDLINE_FUZZ_RUNS").map_or(runs, |runs| usize::try_from(runs).unwrap_or(usize::MAX));
        println!("fuzz {}: HOLDLINE_FUZZ_SEED={seed}, {runs} runs, {} inputs kept", self.target, self.pool.len());
        let mut dice = Dice::new(seed);
        let mut known = BTreeSet::new();
        for at in 0..self.pool.len() {
            known.insert(self.guarded(&self.pool[at], seed, &check));
        }
        for _ in 0..runs {
            let input = self.mutation(&mut dice);
            let kind = self.guarded(&input, seed, &check);
            if self.pool.len() < MAX_POOL && known.insert(kind) {
                if number("HOLDLINE_FUZZ_KEEP").is_some() {
                    self.keep("seed", &input);
                }
                self.pool.push(input);
            }
        }
    }

    fn guarded(&self, input: &[u8], seed: u64, check: &impl Fn(&[u8]) -> String) -> String {
        catch_unwind(AssertUnwindSafe(|| check(input))).unwrap_or_else(|_| {
            let path = self.keep("found", input);
            panic!("fuzz {}, seed {seed}: {} is no good: {:?}", self.target, path.display(), String::from_utf8_lossy(input));
        })
    }

    fn keep(&self, what: &str, input: &[u8]) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        let directory = corpus(self.target);
        fs::create_dir_all(&directory).expect("a directory for what is kept");
        let path = directory.join(format!("{what}-{:016x}", hasher.finish()));
        fs::write(&path, input).expect("an input can be kept");
        path
    }

    fn mutation(&self, dice: &mut Dice) -> Vec<u8> {
        let mut input = self.pool[dice.below(self.pool.len())].clone();
        for _ in 0..=dice.below(5) {
            self.mutate(&mut input, dice);
            input.truncate(MAX_INPUT);
        }
        input
    }

    fn mutate(&self, input: &mut Vec<u8>, dice: &mut Dice) {
        if input.is_empty() {
            input.extend_from_slice(&self.tokens[dice.below(self.tokens.len())]);
            return;
        }
        let at = dice.below(input.len());
        let end = (at + 1 + dice.below(24)).min(input.len());
        match dice.below(14) {
            0 => input[at] ^= 1 << dice.below(8),
            1 => input[at] = dice.below(256) as u8,
            2 => drop(input.drain(at..end)),
            3 => drop(input.drain(at..)),
            4 => {
                let again = input[at..end].to_vec();
                insert(input, at, &again);
            }
            5..=7 => insert(input, at, &self.tokens[dice.below(self.tokens.len())]),
            8 => drop(input.splice(at..end, self.tokens[dice.below(self.tokens.len())].iter().copied())),
            9 => {
                let other = &self.pool[dice.below(self.pool.len())];
                let from = dice.below(other.len().max(1)).min(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            10 => {
                // Deep, or long.
                let unit = input[at..end].to_vec();
                let unit: &[u8] = [b"[".as_slice(), b"{\"a\":", b"(", &unit][dice.below(4)];
                let many = unit.repeat(1 << dice.below(12));
                insert(input, at, &many);
            }
            11 => {
                // Another number in the place of one.
                let is_digit = |byte: &u8| byte.is_ascii_digit();
                let Some(from) = input[at..].iter().position(is_digit).map(|offset| at + offset) else { return };
                let to = input[from..].iter().position(|byte| !is_digit(byte)).map_or(input.len(), |offset| from + offset);
                let number =
                    dice.pick(&["0", "-1", "255", "65536", "2147483648", "4294967295", "9223372036854775808", "99999999999999999999999"]);
                input.splice(from..to, number.bytes());
            }
            12 => input[at..end].iter_mut().for_each(|byte| {
                if byte.is_ascii_alphabetic() {
                    *byte ^= 0x20
                }
            }),
            _ => {
                // One of its own pieces somewhere else.
                let piece: Vec<u8> = input.drain(at..end).collect();
                let to = dice.below(input.len() + 1);
                insert(input, to, &piece);
            }
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    drop(input.splice(at..at, bytes.iter().copied()));
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_run_and_what_fails_is_found() {
        let inputs = |seed| {
            let (fuzz, mut dice) = (Fuzz::new("none").seeds(["{\"a\":[1,2]}"]).tokens(&["needle"]), Dice::new(seed));
            (0..2_000).map(|_| fuzz.mutation(&mut dice)).collect::<Vec<_>>()
        };
        let first = inputs(1);
        assert!(first == inputs(1) && first != inputs(2));
        let has = |needle: &[u8]| first.iter().any(|input| input.windows(needle.len()).any(|window| window == needle));
        assert!(has(b"needle") && has(b"[[[[[[[[") && has(b"\\ud800") && has(b"99999999999999999999999") && has(b"\xff"));
        assert!(first.iter().all(|input| input.len() <= MAX_INPUT));
    }
}
