//! Sums over the shards of a batch, and over processes.

use super::objective::Scores;

/// Sum of the gradients and scores of shards, in a fixed binary tree over their numbers: neighbours first, then neighbouring
/// pairs, and so on. The order of additions depends on the number of shards alone, not on threads, and an aligned block of
/// 2^k shards is a subtree, whoever adds it up.
///
/// Shards come in the order of their numbers. As with the digits of a binary counter, at most one partial sum of each size
/// waits for its neighbour.
#[derive(Debug, Default)]
pub struct TreeSum {
    /// Sizes of the waiting sums, as exponents of 2, with their scores; falling from the first to the last.
    waiting: Vec<(u32, Scores)>,
    /// Buffers of the waiting sums but for the first, which is the caller's.
    buffers: Vec<Vec<f32>>,
}

/// An addition or copy of whole gradients. Slot 0 is the caller's buffer.
#[derive(Clone, Copy, Debug)]
enum Move {
    Copy { shard: usize, slot: usize },
    AddShard { shard: usize, slot: usize },
    AddSlot { from: usize, to: usize },
}

/// Additions that a group of threads does together, each for its range of the values.
#[derive(Debug)]
pub struct Additions<'a> {
    moves: Vec<Move>,
    shards: &'a [&'a [f32]],
    pieces: Vec<Piece<'a>>,
}

/// The range of one thread, in all slots.
#[derive(Debug)]
pub struct Piece<'a> {
    start: usize,
    slots: Vec<&'a mut [f32]>,
}

impl TreeSum {
    /// Begins another sum.
    pub fn begin(&mut self) {
        self.waiting.clear();
    }

    /// Takes in the next shards, with gradients of one length. [`Additions::split`] gives the work, in pieces of `len`
    /// values. `total` is the same buffer in each call until [`TreeSum::finish`].
    pub fn push<'a>(
        &'a mut self,
        shards: &'a [&'a [f32]],
        scores: &[Scores],
        total: &'a mut [f32],
        len: usize,
    ) -> Additions<'a> {
        let mut moves = Vec::new();
        for (shard, &scores) in scores.iter().enumerate() {
            match self.waiting.last_mut() {
                Some((size, waiting)) if *size == 0 => {
                    *size = 1;
                    waiting.add(scores);
                    moves.push(Move::AddShard { shard, slot: self.waiting.len() - 1 });
                    self.carry(&mut moves);
                }
                _ => {
                    moves.push(Move::Copy { shard, slot: self.waiting.len() });
                    self.waiting.push((0, scores));
                }
            }
        }
        self.additions(moves, shards, total, len)
    }

    /// The remaining additions, after which `total` is the sum, and the sum of the scores.
    pub fn finish<'a>(&'a mut self, total: &'a mut [f32], len: usize) -> (Additions<'a>, Scores) {
        let mut moves = Vec::new();
        while let Some((_, scores)) = self.waiting.pop() {
            let Some((_, earlier)) = self.waiting.last_mut() else {
                return (self.additions(moves, &[], total, len), scores);
            };
            earlier.add(scores);
            moves.push(Move::AddSlot { from: self.waiting.len(), to: self.waiting.len() - 1 });
        }
        (self.additions(moves, &[], total, len), Scores::default())
    }

    /// Adds neighbours of one size until there are none.
    fn carry(&mut self, moves: &mut Vec<Move>) {
        while let [.., (before, earlier), (last, scores)] = &mut self.waiting[..]
            && before == last
        {
            earlier.add(*scores);
            *before += 1;
            self.waiting.pop();
            moves.push(Move::AddSlot { from: self.waiting.len(), to: self.waiting.len() - 1 });
        }
    }

    fn additions<'a>(
        &'a mut self,
        moves: Vec<Move>,
        shards: &'a [&'a [f32]],
        total: &'a mut [f32],
        len: usize,
    ) -> Additions<'a> {
        let (values, len) = (total.len(), len.max(1));
        let slots = moves.iter().map(|step| match *step {
            Move::Copy { slot, .. } | Move::AddShard { slot, .. } => slot,
            Move::AddSlot { from, .. } => from,
        });
        let buffers = slots.max().unwrap_or(0);
        if self.buffers.len() < buffers {
            self.buffers.resize_with(buffers, Vec::new);
        }
        for buffer in &mut self.buffers[..buffers] {
            buffer.resize(values, 0.0);
        }
        let mut pieces: Vec<Piece<'_>> =
            (0..values).step_by(len).map(|start| Piece { start, slots: Vec::with_capacity(1 + buffers) }).collect();
        let others = self.buffers[..buffers].iter_mut().map(Vec::as_mut_slice);
        for slot in [total].into_iter().chain(others) {
            for (piece, own) in pieces.iter_mut().zip(slot.chunks_mut(len)) {
                piece.slots.push(own);
            }
        }
        Additions { moves, shards, pieces }
    }
}

impl<'a> Additions<'a> {
    pub fn is_empty(&self) -> bool {
        self.moves.is_empty()
    }

    /// The pieces, to be worked on in any order and on any thread, and the work on one.
    pub fn split(self) -> (Vec<Piece<'a>>, impl Fn(&mut Piece<'a>) + Sync) {
        let Additions { moves, shards, pieces } = self;
        let work = move |piece: &mut Piece<'a>| {
            let own = piece.start..piece.start + piece.slots[0].len();
            for step in &moves {
                match *step {
                    Move::Copy { shard, slot } => piece.slots[slot].copy_from_slice(&shards[shard][own.clone()]),
                    Move::AddShard { shard, slot } => add(piece.slots[slot], &shards[shard][own.clone()]),
                    Move::AddSlot { from, to } => {
                        let (before, after) = piece.slots.split_at_mut(from);
                        add(before[to], after[0]);
                    }
                }
            }
        };
        (pieces, work)
    }
}

fn add(total: &mut [f32], values: &[f32]) {
    for (total, value) in total.iter_mut().zip(values) {
        *total += value;
    }
}

/// Combines the results of processes that train one model together. All of them make the same calls in the same order.
pub trait Reduce: Send {
    /// Replaces the gradient and the scores of this process by the sum over all processes.
    fn sum(&mut self, gradient: &mut [f32], scores: &mut Scores);

    /// True if any process says so: a decision that all have to take alike.
    fn any(&mut self, own: bool) -> bool;
}

/// A process by itself.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Reduce for Alone {
    fn sum(&mut self, _: &mut [f32], _: &mut Scores) {}

    fn any(&mut self, own: bool) -> bool {
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};
    use crate::types::Seed;

    const VALUES: usize = 37;

    /// Values of very different sizes, so that another order gives other bits.
    fn shards(count: usize) -> Vec<(Vec<f32>, Scores)> {
        let mut stream = Stream::new(Seed(1), Purpose::Test, 0, count as u64);
        let mut value = move || stream.uniform(-1.0, 1.0) * 10.0_f32.powi(stream.below(7) as i32);
        let shard = |index: usize| {
            let gradient = (0..VALUES).map(|_| value()).collect();
            (gradient, Scores { loss_sum: f64::from(value()) / 3.0, correct: index as u64 })
        };
        (0..count).map(shard).collect()
    }

    /// The definition: a block is the sum of its two halves, the first of which is the largest power of two below its length.
    fn naive(shards: &[(Vec<f32>, Scores)]) -> (Vec<f32>, Scores) {
        if let [one] = shards {
            return one.clone();
        }
        let half = shards.len().next_power_of_two() / 2;
        let ((mut left, mut scores), (right, others)) = (naive(&shards[..half]), naive(&shards[half..]));
        add(&mut left, &right);
        scores.add(others);
        (left, scores)
    }

    fn streamed(shards: &[(Vec<f32>, Scores)], at_once: usize, len: usize) -> (Vec<f32>, Scores) {
        let (mut tree, mut total) = (TreeSum::default(), vec![f32::NAN; VALUES]);
        let run = |additions: Additions<'_>| {
            let (mut pieces, work) = additions.split();
            pieces.iter_mut().rev().for_each(work);
        };
        // A sum before this one leaves nothing behind.
        let (ones, none) = ([1.0; VALUES], Scores::default());
        tree.push(&[&ones[..]; 3], &[none; 3], &mut total, len);
        tree.begin();
        for wave in shards.chunks(at_once) {
            let gradients: Vec<&[f32]> = wave.iter().map(|(gradient, _)| gradient.as_slice()).collect();
            let scores: Vec<Scores> = wave.iter().map(|(_, scores)| *scores).collect();
            run(tree.push(&gradients, &scores, &mut total, len));
        }
        let (additions, scores) = tree.finish(&mut total, len);
        run(additions);
        assert!(tree.buffers.len() <= shards.len().ilog2() as usize + 1, "{} buffers", tree.buffers.len());
        (total, scores)
    }

    fn bits((gradient, scores): &(Vec<f32>, Scores)) -> (Vec<u32>, u64, u64) {
        (gradient.iter().map(|value| value.to_bits()).collect(), scores.loss_sum.to_bits(), scores.correct)
    }

    #[test]
    fn the_order_depends_on_the_number_of_shards_alone() {
        for count in 1..=40 {
            let shards = shards(count);
            let want = bits(&naive(&shards));
            for at_once in 1..=5 {
                for len in [VALUES, 8, 1] {
                    assert_eq!(bits(&streamed(&shards, at_once, len)), want, "{count} shards, {at_once} at once");
                }
            }
        }
    }

    #[test]
    fn another_order_gives_other_bits() {
        let shards = shards(8);
        let mut in_a_row = shards[0].clone();
        for (gradient, scores) in &shards[1..] {
            add(&mut in_a_row.0, gradient);
            in_a_row.1.add(*scores);
        }
        assert_ne!(bits(&in_a_row).0, bits(&naive(&shards)).0);
    }

    #[test]
    fn aligned_blocks_can_be_added_up_apart() {
        for count in [2, 4, 8, 16, 32] {
            let shards = shards(count);
            let want = bits(&naive(&shards));
            for processes in (1..=count.ilog2()).map(|exponent| 1 << exponent) {
                let parts: Vec<_> = shards.chunks(count / processes).map(|own| streamed(own, 3, 8)).collect();
                assert_eq!(bits(&naive(&parts)), want, "{count} shards, {processes} processes");
            }
        }
    }

    #[test]
    fn a_process_by_itself_keeps_its_own() {
        let (mut gradient, mut scores) = (vec![1.0, 2.0], Scores { loss_sum: 3.0, correct: 4 });
        Alone.sum(&mut gradient, &mut scores);
        assert_eq!((gradient, scores), (vec![1.0, 2.0], Scores { loss_sum: 3.0, correct: 4 }));
        assert!(Alone.any(true) && !Alone.any(false));
    }
}
