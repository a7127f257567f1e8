#!/usr/bin/env python3
"""Make a Python virtual environment from a requirements file: venv.py DIRECTORY REQUIREMENTS...

Nothing is done when the directory already holds what the files ask for. A moved checkout gets a fresh environment, since
environments hold absolute paths.
"""

import hashlib
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

OLDEST_PYTHON = (3, 9)
# The first pip that goes on with a broken download instead of starting over.
PIP = "pip>=25.1"
STAMP = "setup-complete"


def fail(message):
    sys.exit(f"venv: {message}")


def run(*command):
    if subprocess.run([str(part) for part in command]).returncode != 0:
        fail(f"`{' '.join(str(part) for part in command)}` failed; run again to go on")


def has(module):
    return subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True).returncode == 0


def create(venv):
    """An environment with a pip; Debian splits the module that brings pip into a package of its own."""
    if has("ensurepip") and has("venv"):
        run(sys.executable, "-m", "venv", venv)
    elif has("venv") and has("pip"):
        run(sys.executable, "-m", "venv", "--without-pip", venv)
        run(sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install", "--quiet", PIP)
    elif has("virtualenv"):
        run(sys.executable, "-m", "virtualenv", "--quiet", venv)
    else:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        fail(f"{sys.executable} ({version}) has neither ensurepip nor pip nor virtualenv; install one of them "
             "(Debian and Ubuntu: apt install python3-venv) or name another Python: make PYTHON=/path/to/python3")


def main():
    if len(sys.argv) < 3:
        fail("usage: venv.py DIRECTORY REQUIREMENTS...")
    if sys.version_info < OLDEST_PYTHON:
        fail(f"{sys.executable} is Python {sysconfig.get_python_version()}, 3.9 or newer is needed; "
             "name another: make PYTHON=/path/to/python3")
    venv = Path(sys.argv[1]).absolute()
    requirements = [Path(argument) for argument in sys.argv[2:]]
    wanted = hashlib.sha256(str(venv).encode())
    for path in requirements:
        wanted.update(path.read_bytes())
    stamp = venv / STAMP
    if stamp.exists() and stamp.read_text() == wanted.hexdigest():
        print(f"venv: {sys.argv[1]} is up to date")
        return
    print(f"venv: making {sys.argv[1]} with {', '.join(str(path) for path in requirements)}", flush=True)
    python = venv / "bin" / "python"
    if not python.exists() or stamp.exists():
        shutil.rmtree(venv, ignore_errors=True)
        create(venv)
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--timeout", "15"]
    run(*pip, PIP)
    for path in requirements:
        run(*pip, "--resume-retries", "20", "-r", path)
    stamp.write_text(wanted.hexdigest())


if __name__ == "__main__":
    main()
