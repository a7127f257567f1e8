"""Machine-readable records of a run: metrics.jsonl, result.json and a text file for Prometheus, checked by the schemas in
docs/schemas and by third-party readers; and the statements of docs/records.md about them."""

import copy
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[2]
WRITER = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "examples" / "records"
COUNTERS = {
    f"trainer_{what}" for what in (
        "epochs", "steps", "images", "checkpoint_bytes", "checkpoint_failures", "event_write_errors", "skipped_steps",
        "rollbacks",
    )
}
KINDS = {"start", "epoch", "checkpoint", "skipped", "rollback", "final"}
DOCUMENT = (ROOT / "docs" / "records.md").read_text()


def validator(name):
    schema = json.loads((ROOT / "docs" / "schemas" / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


LINE = validator("metrics")
RESULT = validator("result")
DATASET = validator("dataset")


def strict(text):
    """Standard JSON: no NaN."""
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def whole_lines(path):
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def blocks(language):
    """Code blocks of the document."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A directory with the records of a run in logs/fit, which `examples/records.rs` writes."""
    if not WRITER.exists():
        pytest.exit(f"{WRITER} is not there; run `cargo build --release --examples`", returncode=2)
    work = tmp_path_factory.mktemp("records")
    subprocess.run([WRITER, work / "logs" / "fit"], check=True, timeout=60)
    return work


@pytest.fixture(scope="module")
def run(work):
    return work / "logs" / "fit"


@pytest.fixture(scope="module")
def lines(run):
    return [strict(line) for line in whole_lines(run / "metrics.jsonl")]


def test_every_line_is_as_the_schema_has_it(lines):
    assert {line["kind"] for line in lines} == KINDS == set(LINE.schema["properties"]["kind"]["enum"])
    for line in lines:
        LINE.validate(line)


def test_a_result_is_as_the_schema_has_it(run):
    RESULT.validate(strict((run / "result.json").read_text()))


def places(value, path=()):
    """Paths to every property of an object and of those in it; names of settings and of kinds of bytes are free."""
    if isinstance(value, dict) and path[-1:] not in [("settings",), ("log_bytes",)]:
        for name, inner in value.items():
            yield (*path, name)
            yield from places(inner, (*path, name))


def parent_of(value, path):
    for name in path[:-1]:
        value = value[name]
    return value


def test_the_schemas_refuse_what_is_not_written(lines, run):
    refused = 0
    for schema, value in [*((LINE, line) for line in lines), (RESULT, strict((run / "result.json").read_text()))]:
        for path in places(value):
            for damage in ("without", "of another type", "with a stranger beside it"):
                damaged = copy.deepcopy(value)
                parent = parent_of(damaged, path)
                if damage == "without":
                    if path == ("error",):
                        continue
                    del parent[path[-1]]
                elif damage == "of another type":
                    parent[path[-1]] = [1]
                else:
                    parent["stranger"] = 1
                assert not schema.is_valid(damaged), f"{path} {damage}: {damaged}"
                refused += 1
    assert refused > 300


def test_the_description_of_the_data_is_as_its_schema_has_it(logs):
    path = logs / "fit" / "dataset.json"
    if not path.exists():
        pytest.skip("a run of an older version")
    found = strict(path.read_text())
    DATASET.validate(found)
    documented = strict(blocks("json")[-1])
    DATASET.validate(documented)
    assert list(found) == list(documented)
    for name in found:
        without = {key: value for key, value in found.items() if key != name}
        assert not DATASET.is_valid(without), name
        assert not DATASET.is_valid({**found, name: {}}), name


def test_records_of_a_real_run_are_as_the_schemas_have_them(logs):
    run = logs / "fit"
    if not (run / "metrics.jsonl").exists():
        pytest.skip("a run writes no metrics.jsonl yet")
    lines = [strict(line) for line in whole_lines(run / "metrics.jsonl")]
    for line in lines:
        LINE.validate(line)
    result = strict((run / "result.json").read_text())
    RESULT.validate(result)
    assert lines[0]["kind"] == "start" and not lines[0]["resumed"]
    assert lines[-1]["kind"] == "final" and lines[-1]["status"] == result["status"] == "finished"
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert [line["epoch"] for line in epochs] == list(range(1, result["epochs"] + 1))
    assert epochs[-1]["step"] == lines[-1]["step"] == result["step"] == result["iterations"]
    assert epochs[-1]["metrics"]["validation_accuracy"] == result["validation_accuracy"]
    assert lines[-1]["objective"]["value"] == result["validation_accuracy"]
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)


def families(path):
    return {family.name: family for family in text_string_to_metric_families(path.read_text())}


def test_prometheus_reads_the_textfile(run):
    found = families(run / "trainer.prom")
    assert len(found) == 18
    for name, family in found.items():
        assert family.documentation.endswith("."), name
        assert family.type == ("counter" if name in COUNTERS else "gauge"), name
        assert len(family.samples) == 1, name
    assert found["trainer_last_success_timestamp_seconds"].samples[0].value == 1764000220.5
    assert found["trainer_checkpoint_bytes"].samples[0].value == 3 * 4887512
    assert set(found["trainer_build_info"].samples[0].labels) == {"version", "revision", "schedule"}
    assert {family.samples[0].labels["schedule"] for family in found.values()} == {"trainer"}


def test_a_label_of_any_text_comes_through(run):
    stem = 'a "quoted" \\ name\nof two lines'
    for name, family in families(run / f"{stem}.prom").items():
        assert family.samples[0].labels["schedule"] == stem, name


def test_a_failure_leaves_the_time_of_the_last_success(run):
    found = {name: family.samples[0].value for name, family in families(run / "failed.prom").items()}
    assert found["trainer_last_success_timestamp_seconds"] == 1764000220.5
    assert found["trainer_last_run_timestamp_seconds"] == 1764000300.5
    assert (found["trainer_last_run_success"], found["trainer_last_run_exit_code"]) == (0, 65)
    assert found["trainer_validation_loss"] == float("inf")


def test_the_document_shows_what_is_written(run, lines):
    shown = [line for block in blocks("jsonl") for line in block.splitlines(keepends=True)]
    assert {json.loads(line)["kind"] for line in shown} == KINDS
    written = whole_lines(run / "metrics.jsonl")
    assert [line for line in shown if line not in written] == []
    assert blocks("json")[:1] == [(run / "result.json").read_text()]
    figures = (run / "trainer.prom").read_text()
    for block in blocks("text"):
        assert [line for line in block.splitlines() if line not in figures.splitlines()] == []


def test_the_document_tells_how_to_read_it_with_pandas(work, monkeypatch):
    monkeypatch.chdir(work)
    block, *_ = blocks("python")
    names = {}
    with open("logs/fit/metrics.jsonl", "a") as journal:
        journal.write('{"v":1,"kind":"epo')  # as while it is written
    exec(block, names)
    assert list(names["epochs"].index) == [1, 2, 3]
    assert list(names["epochs"].validation_accuracy) == [0.96875, 0.9765625, 0.984375]


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_document_tells_how_to_read_it_with_jq(work):
    block, *_ = blocks("sh")
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=work, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["1\t0.96875", "2\t0.9765625", "3\t0.984375", "finished", "0.984375"]
