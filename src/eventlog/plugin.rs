//! Names of TensorBoard's plugins. The name in a value's metadata selects the plugin that displays it.

pub const SCALARS: &str = "scalars";
pub const HISTOGRAMS: &str = "histograms";
pub const IMAGES: &str = "images";
pub const AUDIO: &str = "audio";
pub const TEXT: &str = "text";
pub const PR_CURVES: &str = "pr_curves";
pub const CUSTOM_SCALARS: &str = "custom_scalars";
pub const HPARAMS: &str = "hparams";
pub const PROJECTOR: &str = "projector";
pub const GRAPHS: &str = "graphs";
pub const RUN_METADATA: &str = "graph_run_metadata";
pub const KERAS_GRAPH: &str = "graph_keras_model";
