//! The name of a node, as in a `state_dict`.

use std::fmt;

/// Components with dots between them, as in PyTorch's `state_dict`: `stage2.block0.conv1`. TensorBoard separates them by `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(String);

impl Path {
    pub fn new(dotted: impl Into<String>) -> Path {
        Path(dotted.into())
    }

    /// The path of a part of this node.
    #[must_use]
    pub fn child(&self, component: &str) -> Path {
        Path(format!("{}.{component}", self.0))
    }

    /// True if this node is a part of `other`.
    pub fn is_below(&self, other: &Path) -> bool {
        self.0.strip_prefix(&other.0).is_some_and(|rest| rest.starts_with('.'))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_below_its_whole_and_nothing_else_is() {
        let conv = Path::new("conv2d");
        assert!(conv.child("relu").is_below(&conv) && conv.child("a").child("b").is_below(&conv));
        for other in ["conv2d", "conv2d_1", "conv2d_1.relu", "conv"] {
            assert!(!Path::new(other).is_below(&conv), "{other}");
        }
        assert_eq!(conv.child("relu").to_string(), "conv2d.relu");
    }
}
