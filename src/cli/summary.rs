//! `trainer summary`: layers, output shapes, parameters and multiply-accumulates, without training.

use clap::{ArgMatches, Command};

use super::{Failure, flags, option, print};
use crate::exit::Exit;
use crate::graph::summary as table;
use crate::types::ImageShape;

pub(super) fn command() -> Command {
    Command::new("summary")
        .about("Show the network's layers, output shapes, parameters and multiply-accumulates")
        .arg(option("input", "HxWxC", "Shape of an image, instead of the data set's"))
        .arg(option("classes", "N", "Number of classes, instead of the data set's"))
        .args(flags::flags())
}

pub(super) fn summary(matches: &ArgMatches) -> Result<(), Failure> {
    let config = flags::resolve(matches)?.config;
    let input = match matches.get_one::<String>("input") {
        Some(text) => shape(text)?,
        None => config.dataset.shape(),
    };
    let classes = match matches.get_one::<String>("classes") {
        Some(text) => match text.parse() {
            Ok(classes) if (1..=65_536).contains(&classes) => classes,
            _ => return Err(usage("classes", text, "a whole number from 1 to 65536")),
        },
        None => config.dataset.classes().len(),
    };
    let network = config.architecture.build(input, classes)?;
    print(&table(&network))
}

fn shape(text: &str) -> Result<ImageShape, Failure> {
    let sizes: Option<Vec<usize>> = text.split('x').map(|part| part.parse().ok()).collect();
    match sizes.as_deref() {
        Some(&[height, width, channels])
            if [height, width, channels].iter().all(|size| (1..=16_384).contains(size)) =>
        {
            Ok(ImageShape { height, width, channels })
        }
        _ => Err(usage("input", text, "height, width and channels from 1 to 16384, such as 28x28x1")),
    }
}

fn usage(flag: &str, got: &str, want: &str) -> Failure {
    Failure::new(Exit::Usage, format!("{flag} from command line: got `{got}`, want {want}"))
}
