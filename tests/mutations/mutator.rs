//! Bytes and texts that are nearly valid: examples with a few edits, drawn from a random stream that the point's
//! number selects.

use trainer::rng::{Purpose, Stream};
use trainer::types::Seed;

/// Maximum length of an input in bytes.
const LONGEST: usize = 16 << 10;
/// Limits of common integer formats.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    i64::MAX as u64,
    u64::MAX - 1,
    u64::MAX,
];

pub struct Mutator(Stream);

impl Mutator {
    /// Source of edits for point number `point` of a subject.
    pub fn new(subject: u64, point: u64) -> Mutator {
        Mutator(Stream::new(Seed(0), Purpose::Test, subject, point))
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0.below(n as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// An example with up to six edits; sometimes with none, to test valid input too.
    pub fn bytes(&mut self, examples: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.pick(examples).clone();
        for _ in 0..self.below(7) {
            self.edit(&mut bytes, examples);
        }
        bytes.truncate(LONGEST);
        bytes
    }

    fn edit(&mut self, bytes: &mut Vec<u8>, examples: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let some = 1 + self.below(16);
        let to = (at + some).min(bytes.len());
        match self.below(10) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            2 if at < bytes.len() => bytes[at] = *self.pick(&EDGES) as u8,
            3 if at < bytes.len() => bytes[at] = self.below(256) as u8,
            4 => {
                let edge = self.pick(&EDGES).wrapping_add(self.below(3) as u64);
                let width = *self.pick(&[2, 4, 8]);
                let number = if self.below(2) == 0 {
                    edge.to_le_bytes()[..width].to_vec()
                } else {
                    edge.to_be_bytes()[8 - width..].to_vec()
                };
                let to = (at + width).min(bytes.len());
                bytes[at..to].copy_from_slice(&number[..to - at]);
            }
            5 => drop(bytes.drain(at..to)),
            6 => {
                let fresh: Vec<u8> = (0..some).map(|_| self.below(256) as u8).collect();
                bytes.splice(at..at, fresh);
            }
            7 => {
                let again = bytes[at..to].to_vec();
                let place = self.below(bytes.len() + 1);
                bytes.splice(place..place, again);
            }
            8 => bytes.truncate(at),
            _ => {
                let other = self.pick(examples);
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }

    /// An example with up to four edits by characters and words.
    pub fn text(&mut self, examples: &[&str], words: &[&str]) -> String {
        let mut text: Vec<char> = self.pick(examples).chars().collect();
        for _ in 0..self.below(5) {
            let at = self.below(text.len() + 1);
            let to = (at + 1 + self.below(6)).min(text.len());
            match self.below(6) {
                0 => drop(text.drain(at..to)),
                1 => drop(text.splice(at..at, self.pick(words).chars())),
                2 => drop(text.splice(at..to, self.pick(words).chars())),
                3 => {
                    let again = text[at..to].to_vec();
                    drop(text.splice(to..to, again));
                }
                4 => {
                    let other: Vec<char> = self.pick(examples).chars().collect();
                    let from = self.below(other.len() + 1);
                    text.truncate(at);
                    text.extend(&other[from..]);
                }
                _ => {
                    let code = *self.pick(&[0, 9, 10, 13, 27, 34, 39, 61, 92, 127, 0xa0, 0x202e, 0xfeff, 0x1f600]);
                    text.insert(at, char::from_u32(code).unwrap_or('x'));
                }
            }
        }
        text.truncate(LONGEST);
        text.into_iter().collect()
    }
}
