//! A network as a table, for people.

use std::fmt::Write;

use super::Graph;
use crate::terminal::{Side, columns};

/// Layers with output shapes (height x width x channels), parameters and multiply-accumulates for one image.
pub fn summary(graph: &Graph) -> String {
    let heading = ["layer", "type", "output shape", "parameters", "MACs"].map(str::to_owned);
    let input = ["input".to_owned(), "Input".to_owned(), graph.input().to_string(), "0".to_owned(), "0".to_owned()];
    let layers = graph.layers().iter().map(|layer| {
        let kind = layer.op.class().to_owned();
        let counts = [grouped(layer.parameter_count), grouped(layer.macs)];
        let [parameters, macs] = counts;
        [layer.name.clone(), kind, layer.output.to_string(), parameters, macs]
    });
    let total =
        ["total".to_owned(), String::new(), String::new(), grouped(graph.parameter_count()), grouped(graph.macs())];
    let rows: Vec<[String; 5]> = [heading, input].into_iter().chain(layers).chain([total]).collect();

    let lines = columns(&rows, &[Side::Left, Side::Left, Side::Left, Side::Right, Side::Right]);
    let rule = "-".repeat(lines.iter().map(|line| line.chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        if number == 1 || number == lines.len() - 1 {
            let _ = writeln!(text, "{rule}");
        }
        let _ = writeln!(text, "{line}");
    }
    let megabytes = (graph.parameter_count() * 4) as f64 / 1e6;
    let _ =
        writeln!(text, "\n{} parameters, all trainable: {megabytes:.2} MB as f32", grouped(graph.parameter_count()));
    text
}

/// A count with commas between thousands.
pub(crate) fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;
    use crate::types::ImageShape;

    #[test]
    fn the_tutorial_network() {
        let input = ImageShape { height: 28, width: 28, channels: 1 };
        let network = Architecture::default().build(input, 10).unwrap();
        expect_test::expect![[r#"
            layer            type          output shape  parameters       MACs
            ------------------------------------------------------------------
            input            Input         28x28x1                0          0
            conv2d           Conv2D        26x26x32             320    194,688
            max_pooling2d    MaxPooling2D  13x13x32               0          0
            conv2d_1         Conv2D        11x11x64          18,496  2,230,272
            max_pooling2d_1  MaxPooling2D  5x5x64                 0          0
            flatten          Flatten       1600                   0          0
            dense            Dense         128              204,928    204,800
            dense_1          Dense         10                 1,290      1,280
            ------------------------------------------------------------------
            total                                           225,034  2,631,040

            225,034 parameters, all trainable: 0.90 MB as f32
        "#]]
        .assert_eq(&summary(&network));
    }
}
