//! Silhouette score: separation of the classes in a layout.
//!
//! Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis" (1987).

/// Mean silhouette of places on a plane with a class each, -1 to 1: 1 if every place is far nearer to its own class
/// than to any other, 0 if classes overlap, negative if places lie among other classes. A place that is alone in its
/// class counts as 0. `None` for fewer than two classes, if every place is alone in its class, and for places that
/// are not finite.
pub fn silhouette(layout: &[[f32; 2]], classes: &[usize]) -> Option<f64> {
    let count = layout.len().min(classes.len());
    let mut names: Vec<usize> = classes[..count].to_vec();
    names.sort_unstable();
    names.dedup();
    if names.len() < 2 || names.len() == count || layout.iter().flatten().any(|v| !v.is_finite()) {
        return None;
    }
    let class: Vec<usize> = classes[..count].iter().map(|class| names.partition_point(|name| name < class)).collect();
    let mut sizes = vec![0_usize; names.len()];
    class.iter().for_each(|&class| sizes[class] += 1);
    let mut total = 0.0;
    for i in 0..count {
        let mut sums = vec![0.0_f64; names.len()];
        for j in 0..count {
            let [dx, dy] = [0, 1].map(|axis| f64::from(layout[i][axis]) - f64::from(layout[j][axis]));
            sums[class[j]] += (dx * dx + dy * dy).sqrt();
        }
        if sizes[class[i]] < 2 {
            continue;
        }
        let within = sums[class[i]] / (sizes[class[i]] - 1) as f64;
        let others = (0..names.len()).filter(|&other| other != class[i]);
        let nearest = others.map(|other| sums[other] / sizes[other] as f64).fold(f64::INFINITY, f64::min);
        let larger = within.max(nearest);
        if larger > 0.0 {
            total += (nearest - within) / larger;
        }
    }
    Some(total / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::tsne::tests::golden;

    #[test]
    fn scikit_learn_gets_the_same_score() {
        let golden = golden();
        let got = silhouette(&golden.pca, &golden.labels).unwrap();
        assert!((got - golden.silhouette).abs() < 1e-6, "{got} and scikit-learn's {}", golden.silhouette);
        let got = silhouette(&golden.tsne, &golden.labels).unwrap();
        assert!((got - golden.silhouette_tsne).abs() < 1e-6, "{got} and scikit-learn's {}", golden.silhouette_tsne);
    }

    #[test]
    fn by_hand() {
        // Two pairs, 1 apart each, 10 between them: a = 1, b = 10.5 or 9.5.
        let layout = [[0.0, 0.0], [1.0, 0.0], [10.0, 0.0], [11.0, 0.0]];
        let want = (2.0 * (9.5 / 10.5) + 2.0 * (8.5 / 9.5)) / 4.0;
        assert!((silhouette(&layout, &[7, 7, 3, 3]).unwrap() - want).abs() < 1e-9);
        assert!(silhouette(&layout, &[0, 1, 0, 1]).unwrap() < 0.0, "classes that are mixed");
        assert_eq!(silhouette(&[[1.0, 1.0]; 4], &[0, 0, 1, 1]), Some(0.0), "all in one place");
    }

    #[test]
    fn where_it_means_nothing_there_is_none() {
        assert_eq!(silhouette(&[], &[]), None);
        assert_eq!(silhouette(&[[0.0; 2]; 3], &[4, 4, 4]), None, "one class");
        assert_eq!(silhouette(&[[0.0; 2]; 3], &[0, 1, 2]), None, "every place alone");
        assert_eq!(silhouette(&[[f32::NAN, 0.0]; 3], &[0, 1, 1]), None);
    }
}
