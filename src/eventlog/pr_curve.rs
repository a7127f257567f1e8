//! Precision against recall for every threshold on a class's probability.

/// Counts above this are not exact in the single precision of the wire.
const MOST: u64 = 1 << 24;

/// One curve: hits and misses at thresholds that are spread evenly over 0 to 1, both ends included.
///
/// Column `j` of `T` belongs to the threshold `j / (T - 1)`; TensorBoard's own summaries have 201 columns. It cuts off
/// columns at the end that predict nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct PrCurve {
    /// True positives, false positives, true negatives, false negatives, precision, recall. In a box, as every value of
    /// whatever kind takes as much room as the largest, and is moved through a queue.
    rows: Box<[Vec<f32>; 6]>,
}

/// Samples of one class and of the others, by what a threshold makes of them; the columns of a [`PrCurve`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub true_positives: Vec<u64>,
    pub false_positives: Vec<u64>,
    pub true_negatives: Vec<u64>,
    pub false_negatives: Vec<u64>,
}

/// Fault in the columns of a curve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrCurveError {
    #[error(
        "{row} of a precision-recall curve: got {got} thresholds, want {want}, as many as there are true positives"
    )]
    Length { row: &'static str, got: usize, want: usize },
    #[error("a precision-recall curve: got {got} thresholds, want from 2 to {}", u32::MAX)]
    Thresholds { got: usize },
    #[error("{row} of a precision-recall curve at threshold {index}: got {got}, want {want}")]
    Value { row: &'static str, index: usize, got: String, want: &'static str },
}

impl crate::exit::Classify for PrCurveError {
    fn exit(&self) -> crate::exit::Exit {
        crate::exit::Exit::Software
    }
}

impl PrCurve {
    /// A curve whose precision and recall follow from the counts. Where nothing is predicted precision is 0, where there
    /// is nothing to find recall is 0, as TensorBoard's own summaries have it.
    pub fn of_counts(counts: &Counts) -> Result<PrCurve, PrCurveError> {
        let share = |hits: &[u64], misses: &[u64]| {
            hits.iter().zip(misses).map(|(&hit, &miss)| (hit as f64 / (hit + miss).max(1) as f64) as f32).collect()
        };
        let precision = share(&counts.true_positives, &counts.false_positives);
        let recall = share(&counts.true_positives, &counts.false_negatives);
        PrCurve::new(counts, precision, recall)
    }

    /// A curve with a precision and recall of your own, 0 to 1.
    pub fn new(counts: &Counts, precision: Vec<f32>, recall: Vec<f32>) -> Result<PrCurve, PrCurveError> {
        let Counts { true_positives, false_positives, true_negatives, false_negatives } = counts;
        let want = true_positives.len();
        if want < 2 || u32::try_from(want).is_err() {
            return Err(PrCurveError::Thresholds { got: want });
        }
        let counted = [
            ("true positives", true_positives),
            ("false positives", false_positives),
            ("true negatives", true_negatives),
            ("false negatives", false_negatives),
        ];
        for (row, values) in counted {
            check_len(row, values.len(), want)?;
            if let Some(index) = values.iter().position(|&count| count > MOST) {
                let got = values[index].to_string();
                return Err(PrCurveError::Value { row, index, got, want: "at most 16777216" });
            }
        }
        for (row, values) in [("precision", &precision), ("recall", &recall)] {
            check_len(row, values.len(), want)?;
            if let Some(index) = values.iter().position(|share| !(0.0..=1.0).contains(share)) {
                let got = values[index].to_string();
                return Err(PrCurveError::Value { row, index, got, want: "a share from 0 to 1" });
            }
        }
        let [a, b, c, d] = counted.map(|(_, values)| values.iter().map(|&count| count as f32).collect());
        Ok(PrCurve { rows: Box::new([a, b, c, d, precision, recall]) })
    }

    pub fn thresholds(&self) -> usize {
        self.rows[0].len()
    }

    pub fn true_positives(&self) -> &[f32] {
        &self.rows[0]
    }

    pub fn false_positives(&self) -> &[f32] {
        &self.rows[1]
    }

    pub fn true_negatives(&self) -> &[f32] {
        &self.rows[2]
    }

    pub fn false_negatives(&self) -> &[f32] {
        &self.rows[3]
    }

    pub fn precision(&self) -> &[f32] {
        &self.rows[4]
    }

    pub fn recall(&self) -> &[f32] {
        &self.rows[5]
    }

    /// The rows one after the other, in the order that TensorBoard wants.
    pub(super) fn values(&self) -> impl Iterator<Item = f32> + '_ {
        self.rows.iter().flatten().copied()
    }
}

fn check_len(row: &'static str, got: usize, want: usize) -> Result<(), PrCurveError> {
    if got == want { Ok(()) } else { Err(PrCurveError::Length { row, got, want }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Counts {
        Counts {
            true_positives: vec![3, 2, 0],
            false_positives: vec![5, 1, 0],
            true_negatives: vec![0, 4, 5],
            false_negatives: vec![0, 1, 3],
        }
    }

    #[test]
    fn precision_and_recall_follow_from_the_counts() {
        let curve = PrCurve::of_counts(&counts()).unwrap();
        assert_eq!(curve.thresholds(), 3);
        assert_eq!(curve.precision(), [0.375, 2.0 / 3.0, 0.0]);
        assert_eq!(curve.recall(), [1.0, 2.0 / 3.0, 0.0]);
        let values: Vec<f32> = curve.values().collect();
        assert_eq!((values.len(), &values[..6]), (18, &[3.0, 2.0, 0.0, 5.0, 1.0, 0.0][..]));
    }

    #[test]
    fn columns_that_make_no_curve_are_refused() {
        let error = |counts: &Counts| PrCurve::of_counts(counts).unwrap_err().to_string();
        let mut short = counts();
        short.false_negatives.pop();
        assert_eq!(
            error(&short),
            "false negatives of a precision-recall curve: got 2 thresholds, want 3, as many as there are true positives"
        );
        assert_eq!(error(&Counts::default()), "a precision-recall curve: got 0 thresholds, want from 2 to 4294967295");
        let mut many = counts();
        many.true_negatives[1] = MOST + 1;
        assert_eq!(
            error(&many),
            "true negatives of a precision-recall curve at threshold 1: got 16777217, want at most 16777216"
        );
        let nan = PrCurve::new(&counts(), vec![0.0, f32::NAN, 0.0], vec![0.0; 3]).unwrap_err();
        assert_eq!(
            nan.to_string(),
            "precision of a precision-recall curve at threshold 1: got NaN, want a share from 0 to 1"
        );
    }
}
