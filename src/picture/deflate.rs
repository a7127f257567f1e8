//! A zlib stream (RFC 1950, RFC 1951) for what PNG's filters leave: Huffman codes made for these bytes, and runs of
//! zeros.
//!
//! Nothing else of what may repeat is looked for. That takes most of a compressor's time, and of filtered pixels it
//! finds little: with codes that fit, files are about as small as those of zlib's lowest level.

/// Literals, the end of the block, and the lengths of matches.
const SYMBOLS: usize = 286;
const END: usize = 256;
/// Bits of the longest code: with what is left over from before, four of them fit in a word. The format allows 15.
const LONGEST: usize = 12;
/// The longest match.
const MATCH: usize = 258;
/// Bytes that are looked at together; zeros count as a run from such a word on.
const WORD: usize = 8;

/// `data` as a zlib stream.
pub(super) fn compress(data: &[u8]) -> Vec<u8> {
    let mut counter = Counter { literals: [[0; 256]; 4], counts: [0; SYMBOLS] };
    take_apart(data, &mut counter);
    let counts = counter.finish();
    let lengths = code_lengths(&counts);
    // Behind a match's length stand up to 5 bits more, and its distance. A header is shorter than the rest.
    let bits = |symbol: usize| usize::from(lengths[symbol]) + if symbol > END { 6 } else { 0 };
    let all = (0..SYMBOLS).fold(0, |sum, symbol| sum + counts[symbol] as usize * bits(symbol));
    let bytes = vec![0; all / 8 + 512];
    let mut writer = Writer { codes: codes(&lengths), bytes, at: 0, word: 0, count: 0 };
    // A window of 32 KiB, the fastest method.
    writer.put(0x0178, 16);
    writer.put_header(&lengths);
    take_apart(data, &mut writer);
    writer.put_code(writer.codes[END]);
    let mut stream = writer.finish();
    stream.extend_from_slice(&simd_adler32::adler32(&data).to_be_bytes());
    stream
}

/// Takes what is coded together, one piece after another.
trait Pieces {
    /// Bytes that are not all zero.
    fn word(&mut self, word: &[u8; WORD]);
    fn byte(&mut self, byte: u8);
    /// As many zeros again, from 3 to [`MATCH`], after one.
    fn zeros(&mut self, length: usize);
}

fn take_apart(data: &[u8], pieces: &mut impl Pieces) {
    let is_zero = |word: &&[u8; WORD]| u64::from_le_bytes(**word) == 0;
    let (mut words, rest) = data.as_chunks::<WORD>();
    while let Some(word) = words.first() {
        let zeros = words.iter().take_while(is_zero).count();
        if zeros > 0 {
            take_run_apart(zeros * WORD, pieces);
        } else {
            pieces.word(word);
        }
        words = &words[zeros.max(1)..];
    }
    rest.iter().for_each(|&byte| pieces.byte(byte));
}

fn take_run_apart(zeros: usize, pieces: &mut impl Pieces) {
    pieces.byte(0);
    let mut left = zeros - 1;
    while left >= 3 {
        let length = left.min(MATCH);
        pieces.zeros(length);
        left -= length;
    }
    (0..left).for_each(|_| pieces.byte(0));
}

/// The symbol of a match's length, 3 to [`MATCH`], and what follows it: a number and its bits.
fn length_symbol(length: usize) -> (usize, u64, u32) {
    match length {
        0..11 => (254 + length, 0, 0),
        11..MATCH => {
            // Four symbols for each doubling of the length.
            let above = length - 3;
            let bits = above.ilog2() - 2;
            let symbol = 257 + 4 * bits as usize + (above >> bits);
            (symbol, (above & ((1 << bits) - 1)) as u64, bits)
        }
        _ => (285, 0, 0),
    }
}

/// How often each symbol comes.
struct Counter {
    /// A counter just written is slow to read again, and neighbours are often equal: they have counters of their own.
    literals: [[u32; 256]; 4],
    counts: [u32; SYMBOLS],
}

impl Pieces for Counter {
    #[inline(always)]
    fn word(&mut self, word: &[u8; WORD]) {
        for (i, &byte) in word.iter().enumerate() {
            let count = &mut self.literals[i % 4][usize::from(byte)];
            *count = count.wrapping_add(1);
        }
    }

    fn byte(&mut self, byte: u8) {
        self.counts[usize::from(byte)] += 1;
    }

    fn zeros(&mut self, length: usize) {
        self.counts[length_symbol(length).0] += 1;
    }
}

impl Counter {
    fn finish(mut self) -> [u32; SYMBOLS] {
        for (byte, count) in self.counts[..256].iter_mut().enumerate() {
            *count += self.literals.iter().map(|literals| literals[byte]).sum::<u32>();
        }
        self.counts[END] = 1;
        self.counts
    }
}

/// How many bits each symbol's code has; 0 for one that does not come. At least two come.
fn code_lengths(counts: &[u32; SYMBOLS]) -> [u8; SYMBOLS] {
    let mut used: Vec<(u32, usize)> = (0..SYMBOLS).map(|i| (counts[i], i)).filter(|(count, _)| *count > 0).collect();
    used.sort_unstable();
    // Huffman's tree from two queues, leaves and inner nodes, both of which ascend.
    let leaves = used.len();
    let mut weights: Vec<u64> = used.iter().map(|(count, _)| u64::from(*count)).collect();
    let mut parents = vec![0; 2 * leaves - 1];
    let (mut leaf, mut inner) = (0, leaves);
    for node in leaves..2 * leaves - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            let next = if leaf < leaves && (inner == node || weights[leaf] <= weights[inner]) {
                &mut leaf
            } else {
                &mut inner
            };
            weight += weights[*next];
            parents[*next] = node;
            *next += 1;
        }
        weights.push(weight);
    }
    let mut depths = vec![0usize; 2 * leaves - 1];
    let mut of_length = [0u32; LONGEST + 1];
    for node in (0..2 * leaves - 2).rev() {
        depths[node] = depths[parents[node]] + 1;
        if node < leaves {
            of_length[depths[node].min(LONGEST)] += 1;
        }
    }
    // Codes cut to the longest length take more room than there is: until all fit, the next shorter one makes room
    // for itself and one of them, a level below.
    let room = |of_length: &[u32]| -> u32 { (1..=LONGEST).map(|bits| of_length[bits] << (LONGEST - bits)).sum() };
    let mut taken = room(&of_length);
    while taken > 1 << LONGEST {
        let Some(bits) = (1..LONGEST).rev().find(|&bits| of_length[bits] > 0) else { break };
        of_length[LONGEST] -= 1;
        of_length[bits] -= 1;
        of_length[bits + 1] += 2;
        taken -= 1;
    }
    // The rarest have the longest.
    let mut lengths = [0; SYMBOLS];
    let ascending = (1..=LONGEST).rev().flat_map(|bits| std::iter::repeat_n(bits as u8, of_length[bits] as usize));
    for (bits, (_, symbol)) in ascending.zip(used) {
        lengths[symbol] = bits;
    }
    lengths
}

/// The bits of a symbol, or of up to four, the first in the lowest place, and how many they are.
#[derive(Clone, Copy, Default)]
struct Code {
    bits: u64,
    count: u32,
}

impl Code {
    /// This one, and the next behind it. Pairs of pairs are put together side by side, a sum would be one after another.
    #[inline(always)]
    fn then(self, next: Code) -> Code {
        Code { bits: self.bits | next.bits.wrapping_shl(self.count), count: self.count.wrapping_add(next.count) }
    }
}

/// The codes that the format gives to these lengths.
fn codes(lengths: &[u8; SYMBOLS]) -> [Code; SYMBOLS] {
    let mut next = [0u16; LONGEST + 2];
    for &length in lengths.iter().filter(|length| **length > 0) {
        next[usize::from(length) + 1] += 1;
    }
    for bits in 1..next.len() {
        next[bits] = (next[bits] + next[bits - 1]) << 1;
    }
    lengths.map(|length| {
        let code = &mut next[usize::from(length)];
        let bits = if length == 0 { 0 } else { code.reverse_bits() >> (16 - length) };
        *code += 1;
        Code { bits: u64::from(bits), count: u32::from(length) }
    })
}

/// Codes one after another, in bytes from the lowest bit.
struct Writer {
    codes: [Code; SYMBOLS],
    bytes: Vec<u8>,
    /// Whole bytes so far.
    at: usize,
    /// The bits after them, less than a byte.
    word: u64,
    count: u32,
}

impl Pieces for Writer {
    #[inline(always)]
    fn word(&mut self, word: &[u8; WORD]) {
        let [a, b, c, d, e, f, g, h] = word.map(|byte| self.codes[usize::from(byte)]);
        self.put_code(a.then(b).then(c.then(d)));
        self.put_code(e.then(f).then(g.then(h)));
    }

    fn byte(&mut self, byte: u8) {
        self.put_code(self.codes[usize::from(byte)]);
    }

    fn zeros(&mut self, length: usize) {
        let (symbol, extra, extra_bits) = length_symbol(length);
        self.put_code(self.codes[symbol]);
        // The only distance is 1, whose code is a 0.
        self.put(extra, extra_bits + 1);
    }
}

impl Writer {
    /// Begins a last block whose codes have these lengths.
    fn put_header(&mut self, lengths: &[u8; SYMBOLS]) {
        // Lengths are themselves coded: here those up to 12, and the three kinds of repetition, have four bits each.
        const ORDER: [u8; 18] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1];
        self.put(0b101, 3);
        self.put((SYMBOLS - 257) as u64, 5);
        // One distance.
        self.put(0, 5);
        self.put((ORDER.len() - 4) as u64, 4);
        for length in ORDER {
            self.put(if (13..16).contains(&length) { 0 } else { 4 }, 3);
        }
        for same in lengths.chunk_by(|a, b| a == b) {
            let mut left = same.len();
            while same[0] == 0 && left >= 3 {
                let length = left.min(138);
                if length < 11 {
                    self.put_length(17, length - 3, 3);
                } else {
                    self.put_length(18, length - 11, 7);
                }
                left -= length;
            }
            for _ in 0..left {
                self.put_length(same[0], 0, 0);
            }
        }
        // The distance's code is a bit long.
        self.put_length(1, 0, 0);
    }

    fn put_length(&mut self, symbol: u8, extra: usize, extra_bits: u32) {
        let code = if usize::from(symbol) > LONGEST { symbol - 3 } else { symbol };
        self.put(u64::from(code.reverse_bits() >> 4), 4);
        self.put(extra as u64, extra_bits);
    }

    fn put(&mut self, bits: u64, count: u32) {
        self.put_code(Code { bits, count });
    }

    /// Up to 48 bits.
    #[inline(always)]
    fn put_code(&mut self, code: Code) {
        let Code { bits, count } = Code { bits: self.word, count: self.count }.then(code);
        self.bytes[self.at..self.at + 8].copy_from_slice(&bits.to_le_bytes());
        self.at += count as usize / 8;
        self.word = bits.wrapping_shr(count & !7);
        self.count = count & 7;
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.truncate(self.at + usize::from(self.count > 0));
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn inflate(stream: &[u8]) -> Vec<u8> {
        let mut data = Vec::new();
        flate2::read::ZlibDecoder::new(stream).read_to_end(&mut data).unwrap();
        data
    }

    #[test]
    fn runs_of_every_length_come_back() {
        for zeros in (0..1100).chain([65_536]) {
            for data in [vec![0; zeros + 1], [&[7][..], &vec![0; zeros], &[9; 3]].concat()] {
                assert_eq!(inflate(&compress(&data)), data, "{zeros}");
            }
        }
    }

    #[test]
    fn lengths_have_the_symbols_of_the_format() {
        let want = [(3, 257, 0), (10, 264, 0), (11, 265, 1), (12, 265, 1), (13, 266, 1), (257, 284, 5), (258, 285, 0)];
        for (length, symbol, bits) in want {
            assert_eq!((length_symbol(length).0, length_symbol(length).2), (symbol, bits), "{length}");
        }
        assert_eq!((length_symbol(12).1, length_symbol(257).1), (1, 30));
    }

    #[test]
    fn no_code_is_too_long_and_all_fill_the_room() {
        // Fibonacci's numbers make the deepest tree.
        let mut counts = [0; SYMBOLS];
        let (mut a, mut b) = (1u32, 1u32);
        for count in &mut counts[..40] {
            *count = a;
            (a, b) = (b, a + b);
        }
        let lengths = code_lengths(&counts);
        let room: u32 = lengths.iter().filter(|bits| **bits > 0).map(|bits| 1 << (LONGEST - usize::from(*bits))).sum();
        assert_eq!((room, lengths.iter().max()), (1 << LONGEST, Some(&(LONGEST as u8))));
        assert!(lengths[..40].is_sorted_by(|a, b| a >= b));
    }

    #[test]
    fn what_fits_few_codes_is_small() {
        assert!(compress(&vec![0; 1 << 20]).len() < 1100);
        let data: Vec<u8> = (0..1u32 << 16).map(|i| (i.wrapping_mul(2_654_435_761) >> 31) as u8 + 1).collect();
        // Two literals and the end: one takes a bit, the other two.
        assert!(compress(&data).len() < data.len() / 8 * 3 / 2 + 100);
    }

    proptest! {
        #[test]
        fn everything_comes_back(
            data in prop::collection::vec(prop_oneof![3 => Just(0), 2 => 0u8..4, 1 => any::<u8>()], 1..3000),
            sparse in any::<bool>(),
        ) {
            let data = if sparse { data.iter().flat_map(|&byte| [vec![0; usize::from(byte)], vec![byte]].concat()).collect() } else { data };
            prop_assert_eq!(inflate(&compress(&data)), data);
        }
    }
}
