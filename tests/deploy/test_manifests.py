"""The files in docs/deploy, the Dockerfile and the list of exit codes agree."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "docs" / "deploy"
TARGET = ROOT / "target"
# Codes after which a retry can help, and the code with which the run requests one.
RETRIED = {70, 74}
RESUMED = {75}


def exits():
    """name -> code, from the source."""
    text = (ROOT / "src" / "exit.rs").read_text(encoding="utf-8").split("pub enum Exit {")[1].split("\n}")[0]
    return {name: int(code) for name, code in re.findall(r"^    (\w+) = (\d+),$", text, re.MULTILINE)}


def final():
    """Codes after which the same command would end the same way."""
    codes = set(exits().values())
    assert RETRIED | RESUMED <= codes
    return codes - RETRIED - RESUMED


@pytest.fixture(scope="module")
def objects():
    with (DEPLOY / "kubernetes.yaml").open(encoding="utf-8") as file:
        return {(item["kind"], item["metadata"]["name"]): item for item in yaml.safe_load_all(file)}


@pytest.fixture(scope="module")
def job(objects):
    return objects["CronJob", "trainer"]["spec"]["jobTemplate"]["spec"]


def test_every_object_has_a_place_and_a_version(objects):
    versions = {"Namespace": "v1", "PersistentVolumeClaim": "v1", "NetworkPolicy": "networking.k8s.io/v1",
                "Job": "batch/v1", "CronJob": "batch/v1"}
    assert {kind for kind, _ in objects} == set(versions)
    for (kind, _), item in objects.items():
        assert item["apiVersion"] == versions[kind]
        assert kind == "Namespace" or item["metadata"]["namespace"] == "training"


def test_the_schedule_forgives_a_late_start_and_no_overlap(objects):
    spec = objects["CronJob", "trainer"]["spec"]
    assert set(spec) == {"schedule", "timeZone", "concurrencyPolicy", "startingDeadlineSeconds",
                         "successfulJobsHistoryLimit", "failedJobsHistoryLimit", "jobTemplate"}
    assert len(spec["schedule"].split()) == 5
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["startingDeadlineSeconds"] >= 60  # below ten seconds a job may never start


def test_a_pod_s_exit_code_decides_what_is_next(job):
    assert set(job) == {"backoffLimit", "podReplacementPolicy", "activeDeadlineSeconds", "podFailurePolicy", "template"}
    assert job["podReplacementPolicy"] == "Failed"
    rules = job["podFailurePolicy"]["rules"]
    # The first matching rule counts: a drained node comes before the exit code caused by the drain.
    assert rules[0] == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    codes = {}
    for rule in rules[1:]:
        on = rule["onExitCodes"]
        assert set(rule) == {"action", "onExitCodes"} and on["operator"] == "In" and rule["action"] not in codes
        codes[rule["action"]] = set(on["values"])
    assert codes == {"Ignore": RESUMED, "FailJob": final(), "Count": RETRIED}
    assert job["template"]["spec"]["restartPolicy"] == "Never", "else a pod failure policy is refused"


def test_pods_are_restricted_and_read_only(objects, job):
    assert objects["Namespace", "training"]["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    for spec in [job["template"]["spec"], objects["Job", "trainer-data"]["spec"]["template"]["spec"]]:
        assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
        assert spec["securityContext"] == {
            "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}}
        volumes = {volume["name"] for volume in spec["volumes"]}
        for container in spec["containers"] + spec.get("initContainers", []):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
            assert "memory" in container["resources"]["limits"] and "command" not in container
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def test_a_retried_pod_has_its_run_s_name_and_time_to_end(job):
    spec = job["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == 30
    [trainer] = spec["containers"]
    [name] = trainer["env"]
    assert name["name"] == "TRAINER_RUN_NAME"
    assert name["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['batch.kubernetes.io/job-name']"
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in trainer["volumeMounts"]}
    assert mounts == {"/data": True, "/logs": False}
    assert "--warm-start=latest" in trainer["args"]


def test_the_network_policy_lets_nothing_through(objects, job):
    spec = objects["NetworkPolicy", "trainer"]["spec"]
    assert set(spec) == {"podSelector", "policyTypes"} and spec["policyTypes"] == ["Ingress", "Egress"]
    chosen = spec["podSelector"]["matchLabels"].items()
    assert chosen <= job["template"]["metadata"]["labels"].items()
    assert "metadata" not in objects["Job", "trainer-data"]["spec"]["template"]


def unit(name):
    """section -> key -> [value]"""
    sections, section = {}, None
    for line in (DEPLOY / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, value = line.split("=", 1)
            section.setdefault(key, []).append(value)
    return sections


def test_the_unit_restarts_what_can_be_gone_on_with():
    service = unit("trainer.service")["Service"]

    def codes(key):
        [value] = service[key]
        return {int(code) for code in value.split()}

    assert codes("RestartForceExitStatus") == codes("SuccessExitStatus") == RESUMED
    assert codes("RestartPreventExitStatus") == final()
    assert service["Restart"] == ["on-failure"]
    assert "RuntimeMaxSec" not in service and "MemoryDenyWriteExecute" not in service
    assert service["ProtectSystem"] == ["strict"] and service["ReadWritePaths"] == ["/srv/trainer/logs"]
    assert unit("trainer.timer")["Timer"]["Persistent"] == ["yes"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")
def test_systemd_takes_the_units(tmp_path):
    # The check needs an existing program; any will do.
    text = (DEPLOY / "trainer.service").read_text(encoding="utf-8").replace("/usr/local/bin/trainer", "/bin/true")
    (tmp_path / "trainer.service").write_text(text, encoding="utf-8")
    shutil.copy(DEPLOY / "trainer.timer", tmp_path)
    names = [tmp_path / "trainer.service", tmp_path / "trainer.timer"]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True)
    assert done.returncode == 0 and "trainer." not in done.stderr, done.stderr


def test_cron_goes_on_after_75_and_after_nothing_else(tmp_path):
    lines = (DEPLOY / "crontab").read_text(encoding="utf-8").splitlines()
    [line] = [line for line in lines if "--run-name" in line]
    assert re.match(r"30 2 \* \* \*  trainer  ", line)
    command = line.split("  trainer  ", 1)[1].replace("\\%", "%")
    assert "%" not in line.replace("\\%", ""), "cron takes a bare % for a newline"
    for name, text in [("sleep", "exit 0"), ("date", "echo 2026-01-02"), (
            "trainer", 'echo "$*" >>calls; [ "$(wc -l <calls)" -lt 3 ] && exit 75; exit "$LAST"')]:
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    for last in [0, *sorted(final() | RETRIED)]:
        (tmp_path / "calls").unlink(missing_ok=True)
        subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, timeout=60, check=True,
                       env={"PATH": f"{tmp_path}:/usr/bin:/bin", "LAST": str(last)})
        calls = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
        assert calls == ["--quiet --run-name 2026-01-02 --warm-start latest"] * 3


@pytest.mark.parametrize("signal_name, sent", [(None, []), ("USR2", ["USR2"]), ("TERM", ["TERM"])])
@pytest.mark.parametrize("code", [0, 65, 75])
def test_slurm_puts_back_what_was_stopped_and_nothing_else(tmp_path, code, signal_name, sent):
    waits = "while [ ! -s heard ]; do sleep 0.02; done" if signal_name else ":"
    trainer = f"""trap 'echo USR2 >>heard' USR2; trap 'echo TERM >>heard' TERM
        echo "$*" >calls; {waits}; exit {code}"""
    for name, text in [("trainer", trainer), ("scontrol", 'echo "$*" >requeued')]:
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    job = subprocess.Popen(["bash", DEPLOY / "slurm.sh", "--seed", "3"], cwd=tmp_path, env={
        "PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "TRAINER_LOGDIR": "/logs"})
    deadline = time.monotonic() + 30
    while not (tmp_path / "calls").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    if signal_name:
        job.send_signal(getattr(signal, f"SIG{signal_name}"))
    ended = job.wait(timeout=30)
    assert (tmp_path / "calls").read_text(encoding="utf-8") == "--logdir /logs --run-name job-7 --seed 3\n"
    heard = tmp_path / "heard"
    assert (heard.read_text(encoding="utf-8").split() if heard.exists() else []) == sent
    assert (tmp_path / "requeued").exists() == (code == 75)
    assert ended == (0 if code == 75 else code)


def test_the_readme_has_every_code():
    rows = re.findall(r"^\| (\d+) \|.*\| (\w+) \| [\w ]+ \| \w+ \|$", (DEPLOY / "README.md").read_text(encoding="utf-8"),
                      re.MULTILINE)
    actions = {int(code): action for code, action in rows}
    want = {0: "succeeded"} | dict.fromkeys(final(), "FailJob") | dict.fromkeys(RETRIED, "Count")
    assert actions == want | dict.fromkeys(RESUMED, "Ignore")


def instructions():
    """(keyword, arguments) of the Dockerfile, continued lines joined."""
    text = "".join(line for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines(True)
                   if not line.startswith("#"))
    return [tuple(line.split(None, 1)) for line in text.replace("\\\n", "").splitlines() if line.strip()]


def test_the_image_is_made_by_the_project_s_own_targets():
    lines = instructions()
    bases = [arguments.split(" AS ")[0] for keyword, arguments in lines if keyword == "FROM"]
    assert len(bases) == 2 and bases[1] == "scratch"
    assert re.fullmatch(r"rust:[\d.]+-slim-bookworm@sha256:[0-9a-f]{64}", bases[0])
    oldest = re.search(r'^rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
    have = bases[0].split(":")[1].split("-")[0]
    assert [int(part) for part in have.split(".")] >= [int(part) for part in oldest.split(".")]
    runs = " ".join(arguments for keyword, arguments in lines if keyword == "RUN")
    assert "make setup" in runs and "make build rootfs" in runs


def test_the_image_takes_every_directory_of_the_root():
    last = instructions()[[keyword for keyword, _ in instructions()].index("FROM", 1):]
    source = (ROOT / "scripts" / "rootfs.py").read_text(encoding="utf-8")
    wanted = set(re.findall(r'"(\w+)": 0o', source)) | {"etc", "lib", "lib64", "usr"}
    copied = {arguments.split("/rootfs/")[1].split("/")[0].split(" ")[0] for keyword, arguments in last
              if keyword == "COPY"}
    # The engine mounts these.
    assert copied == wanted - {"dev", "proc", "sys"}
    one = {keyword: arguments for keyword, arguments in last if keyword != "COPY"}
    assert one["USER"] == "65532:65532" and json.loads(one["ENTRYPOINT"]) == ["trainer"]
    assert json.loads(one["VOLUME"]) == ["/data", "/logs"] and one["STOPSIGNAL"] == "SIGTERM"
    health = one["HEALTHCHECK"]
    assert shlex.split(health.split(" CMD ")[0])[0].startswith("--interval="), "the command is a list: there is no shell"
    assert json.loads(health.split(" CMD ")[1])[0] == "trainer"


def test_the_build_gets_what_cargo_and_make_read_and_no_more():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert all((ROOT / name).exists() for name in kept)
    assert {"Cargo.lock", "Cargo.toml", "Makefile", "benches", "build.rs", "proto", "scripts", "src", ".cargo"} <= kept
    assert not kept & {".git", ".deps", "data", "logs", "target", "tests"}
