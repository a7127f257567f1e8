"""docs/benchmarks.md: a table of limits and results, and a section for each measurement."""

import datetime
import os
import platform
import subprocess
from pathlib import Path

from bench import limits
from measuring import ROOT

HEAD = """# Benchmarks

Made by `make bench`. The subjects run alternately, in reverse order every other round. A ratio is computed within each
round; tables give its median and range over the rounds. In comparisons with peers a ratio above 1 favours the trainer: the
trainer does that many times as much in the same time, or the peer needs that many times as much time or memory. Each section
states the machine and the date of its measurement.

"""


def write(options, sections, measured):
    """Replaces the measured sections, and leaves all others unchanged."""
    old_head, old_sections = parts_of(options.out.read_text() if options.out.exists() else "")
    parts = [HEAD + limits.table(sections, measured, limits.rows_of(old_head))]
    for name, section in sections.items():
        old = old_sections.pop(section.TITLE, None)
        if name in measured:
            text = section.text(options, measured[name]).rstrip("\n")
            parts.append(f"## {section.TITLE}\n\n{text}\n\n{circumstances(options, section)}")
        elif old is not None:
            parts.append(f"## {section.TITLE}\n{old}")
    parts += [f"## {title}\n{text}" for title, text in old_sections.items()]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(part.rstrip("\n") + "\n" for part in parts))


def parts_of(page):
    """The text above the first section, and title -> text of each section."""
    head, *sections = ("\n" + page).split("\n## ")
    return head, dict(section.split("\n", 1) if "\n" in section else (section, "") for section in sections)


def circumstances(options, section):
    # Of the page itself the sections before this one have changed.
    changed = ["git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/benchmarks.md"]
    dirty = " with changes" if output_of(*changed) else ""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    words = [
        f"{datetime.date.today()}, commit {output_of('git', 'rev-parse', '--short=12', 'HEAD')}{dirty}",
        f"{processor()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, "
        f"{platform.system()} {platform.release().split('-')[0]}",
        output_of("rustc", "--version").split(" (")[0],
        locked("tch"),
    ]
    words += [", ".join(map(locked, packages)) if source == "cargo" else installed(getattr(options, source), packages)
              for source, packages in section.PACKAGES.items()]
    return (f"Measured {'; '.join(words)}; {options.rounds} round{'s' * (options.rounds > 1)}, "
            f"{options.threads} threads.")


def output_of(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def locked(crate):
    lines = (ROOT / "Cargo.lock").read_text().splitlines()
    version = lines[lines.index(f'name = "{crate}"') + 1].split('"')[1]
    return f"{crate} {version}"


def installed(python, packages):
    program = ("import importlib.metadata, platform, sys; print(*(f'{name} {importlib.metadata.version(name)}' "
               "for name in sys.argv[1:]), f'Python {platform.python_version()}', sep=', ')")
    return output_of(python, "-c", program, *packages)
