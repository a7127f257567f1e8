"""Names of event files among those of others, read by stock TensorBoard: a run's own file is read, and read last."""

import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

OTHERS = ("events.out.tfevents.9999999999.other", "z.tfevents", "~.tfevents.9999999999")


@pytest.mark.parametrize("other", OTHERS)
def test_a_file_of_the_far_future_hides_nothing(trainer, tmp_path, other):
    for directory in ("train", "validation"):
        (tmp_path / "run" / directory).mkdir(parents=True)
        (tmp_path / "run" / directory / other).touch()
    for epochs in (2, 3):
        trainer("--logdir", tmp_path / "run", "--dataset", "synthetic", "--epochs", epochs, "--limit-train", 100,
                "--limit-validation", 50, "--observe", "none,scalars=every:1epochs", "--quiet")
    for directory in ("train", "validation"):
        loaded = EventAccumulator(str(tmp_path / "run" / directory))
        loaded.Reload()
        assert [event.step for event in loaded.Tensors("epoch_loss")] == [0, 1, 2]
