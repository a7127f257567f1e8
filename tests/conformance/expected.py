"""Expected contents of a run in TensorBoard: the one table to change when the program shows more, or less."""

EPOCHS = 3
TRAIN_SAMPLES = 512
VALIDATION_SAMPLES = 200
BATCH_SIZE = 64
UPDATE_FREQ = 10
ITERATIONS = EPOCHS * -(-TRAIN_SAMPLES // BATCH_SIZE)

COMMAND = [
    "--dataset", "synthetic", "--limit-train", str(TRAIN_SAMPLES), "--limit-validation", str(VALIDATION_SAMPLES),
    "--epochs", str(EPOCHS), "--batch-size", str(BATCH_SIZE), "--update-freq", str(UPDATE_FREQ), "--quiet",
]

# Steps of a series: their unit, and the required ones.
EVERY_EPOCH = list(range(EPOCHS))
# Images drawn a quarter as often as others, and at the end.
ENDS = [0, EPOCHS - 1]
EVERY_EVALUATION = [ITERATIONS // EPOCHS * (epoch + 1) for epoch in range(EPOCHS)]
# The end of an epoch closes a window, too.
EVERY_UPDATE = sorted({*range(UPDATE_FREQ, ITERATIONS + 1, UPDATE_FREQ), *EVERY_EVALUATION})
ONCE = [0]

# Keras's names, in the order of the network.
LAYERS = ["conv2d", "max_pooling2d", "conv2d_1", "max_pooling2d_1", "flatten", "dense", "dense_1"]
WITH_WEIGHTS = ["conv2d", "conv2d_1", "dense", "dense_1"]
WITH_RELU = ["conv2d", "conv2d_1", "dense"]
WITH_FEATURE_MAPS = ["conv2d", "max_pooling2d", "conv2d_1", "max_pooling2d_1"]
WITH_GRAD_CAM = ["conv2d_1"]
# The data set's classes, each of which has series of its own.
CLASSES = [
    "disc", "ring", "square", "frame", "triangle", "cross", "x", "horizontal bars", "vertical bars", "checker",
]
SCORES = ["precision", "recall", "f1"]

# run -> plugin -> tag -> steps. The comparison is exact: a tag that is not listed here is a fault, too.
EXPECTED = {
    "fit/train": {
        "scalars": {
            "epoch_loss": EVERY_EPOCH,
            "epoch_accuracy": EVERY_EPOCH,
            "epoch_learning_rate": EVERY_EPOCH,
            **{
                f"layers/activation_{number}/{layer}": EVERY_EPOCH
                for layer in WITH_WEIGHTS for number in ("mean", "deviation", "low", "high")
            },
            **{f"layers/{share}/{layer}": EVERY_EPOCH for layer in WITH_RELU for share in ("activation_zeros", "dead_units")},
            "non_finite/activations": EVERY_EPOCH,
            "features/silhouette_pca": EVERY_EPOCH,
            "features/silhouette_tsne": EVERY_EPOCH,
        },
        "histograms": {
            **{
                f"{layer}/{weight}/{what}": EVERY_EPOCH
                for layer in WITH_WEIGHTS for weight in ("kernel", "bias") for what in ("histogram", "gradient")
            },
            **{f"{layer}/activation": EVERY_EPOCH for layer in WITH_WEIGHTS},
        },
        "images": {
            "inputs/image": ONCE,
            "layers/filters/conv2d": EVERY_EPOCH,
            **{f"layers/feature_maps/{layer}": EVERY_EPOCH for layer in WITH_FEATURE_MAPS},
            **{f"grad_cam/{layer}": EVERY_EPOCH for layer in WITH_GRAD_CAM},
            "explanations/conv2d_1": ENDS,
            **{f"layers/activation_max/{name}": ENDS for name in ("conv2d", "conv2d_1", "classes")},
            "features/pca": EVERY_EPOCH,
            "features/tsne": EVERY_EPOCH,
            # Animations are at the last epoch.
            "features/tsne/animation": EVERY_EPOCH[-1:],
            "layers/feature_maps/conv2d/animation": EVERY_EPOCH[-1:],
        },
        "text": {
            "model/summary": ONCE,
            "run/config": ONCE,
            "run/environment": ONCE,
        },
        "graphs": {"keras": ONCE},
        "custom_scalars": {"custom_scalars__config__": ONCE},
    },
    "fit/validation": {
        "scalars": {
            "epoch_loss": EVERY_EPOCH,
            "epoch_accuracy": EVERY_EPOCH,
            "best/val_accuracy": EVERY_EPOCH,
            **{f"per_class/{score}/{name}": EVERY_EPOCH for score in SCORES for name in CLASSES},
            **{f"macro_average/{score}": EVERY_EPOCH for score in SCORES},
            "reliability/ece": EVERY_EPOCH,
        },
        "images": {
            "errors/confusion": EVERY_EPOCH,
            "errors/confusion_normalised": EVERY_EPOCH,
            "reliability/diagram": EVERY_EPOCH,
            "errors/most_confident": EVERY_EPOCH,
        },
        "text": {"per_class/scores": EVERY_EPOCH},
        "pr_curves": {f"pr_curve/{name}": EVERY_EPOCH for name in CLASSES},
    },
    "fit": {
        "scalars": {
            "batch_loss": EVERY_UPDATE,
            "batch_accuracy": EVERY_UPDATE,
            "gradient_norm": EVERY_UPDATE,
            **{f"layers/{what}/{layer}": EVERY_UPDATE for layer in WITH_WEIGHTS for what in ("gradient_norm", "update_ratio")},
            "non_finite/gradients": EVERY_UPDATE,
            "non_finite/weights": EVERY_UPDATE,
            "images_per_second": EVERY_UPDATE,
            "time/data": EVERY_UPDATE,
            "time/forward": EVERY_UPDATE,
            "time/backward": EVERY_UPDATE,
            "time/optimizer": EVERY_UPDATE,
            "time/observers": EVERY_UPDATE,
            "time/observers_of_run": [ITERATIONS],
            "evaluation_loss_vs_iterations": EVERY_EVALUATION,
            "evaluation_accuracy_vs_iterations": EVERY_EVALUATION,
        },
    },
}

# Plugins named by TensorBoard's routes: all but the layout of the custom scalars, which has a test of its own.
SERVED = {
    run: {plugin: tags for plugin, tags in plugins.items() if plugin != "custom_scalars"}
    for run, plugins in EXPECTED.items()
}

# run -> tags of the run for TensorBoard's HParams, a file each.
HPARAMS = {
    ".": ["_hparams_/experiment"],
    "fit": ["_hparams_/session_start_info", "_hparams_/session_end_info"],
}

# Entries of TensorBoard's list of runs.
RUNS = sorted({*EXPECTED, *HPARAMS})

# Snapshots for the Projector, the first one opened at the start.
PROJECTOR_RUN = "fit"
SNAPSHOTS = [f"dense/at_epoch_{EPOCHS - 1:04}", "dense/epoch_0000"]
PROJECTOR_POINTS = VALIDATION_SAMPLES

# Tags visible in a tab without a click, in TensorBoard's order of tags: the groups that it opens.
FIRST_SCALARS = ["batch_accuracy", "batch_loss", "best/val_accuracy", "epoch_accuracy", "epoch_learning_rate", "epoch_loss"]
FIRST_IMAGES = ["errors/confusion", "errors/confusion_normalised", "errors/most_confident", "explanations/conv2d_1"]

# The run whose event file holds the model as a TensorFlow graph; the tab calls it "Default".
GRAPH_RUN = "fit/train"

# Chance is 0.1; a network that learns the drawn shapes is far above it after the last epoch.
LEAST_ACCURACY = 0.3
