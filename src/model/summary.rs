//! A network as a table, for people.

use std::fmt::Write;

use super::network::Network;

/// Layers with output shapes (height x width x channels), parameters and multiply-accumulates for one image.
pub fn summary(network: &Network) -> String {
    let heading = ["layer", "type", "output shape", "parameters", "MACs"].map(str::to_owned);
    let input = ["input".to_owned(), "Input".to_owned(), network.input().to_string(), "0".to_owned(), "0".to_owned()];
    let layers = network.layers().iter().map(|layer| {
        let kind = layer.kind.class().to_owned();
        let counts = [grouped(layer.parameter_count()), grouped(layer.macs())];
        let [parameters, macs] = counts;
        [layer.name.clone(), kind, layer.output.to_string(), parameters, macs]
    });
    let total = ["total".to_owned(), String::new(), String::new(), grouped(network.parameter_count()), grouped(network.macs())];
    let rows: Vec<[String; 5]> = [heading, input].into_iter().chain(layers).chain([total]).collect();

    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let rule = "-".repeat(widths.iter().sum::<usize>() + 2 * 4);
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        if number == 1 || number == rows.len() - 1 {
            let _ = writeln!(text, "{rule}");
        }
        let [w0, w1, w2, w3, w4] = widths;
        let [name, kind, shape, parameters, macs] = row;
        let _ = writeln!(text, "{name:w0$}  {kind:w1$}  {shape:w2$}  {parameters:>w3$}  {macs:>w4$}");
    }
    let megabytes = (network.parameter_count() * 4) as f64 / 1e6;
    let _ = writeln!(text, "\n{} parameters, all trainable: {megabytes:.2} MB as f32", grouped(network.parameter_count()));
    text
}

/// A count with commas between thousands.
fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
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
        let network = Network::build(&Architecture::default(), input, 10).unwrap();
        expect_test::expect![[r#"
        "#]]
        .assert_eq(&summary(&network));
    }
}
