"""Draws images of digits as from cameras and scanners, classifies them with a network, and writes docs/photos.md.

    make photos                                      train, draw 300 pictures of each of three seeds, ask, write
    make photos ARGS='--run logs/fit --seeds 7'      a run that is there, another seed
    make photos ARGS='--keep target/photos'          keep the pictures, for a look

Fails, after everything is written, if a limit is missed.
"""

import argparse
import collections
import json
import subprocess
import sys
import tempfile
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from photos.scenes import KINDS, picture

ROOT = Path(__file__).resolve().parents[2]
# Least share of pictures read right, least share of wrong answers doubted, largest share of right answers doubted.
LIMITS = {"right": 0.85, "doubted of those wrong": 0.80, "doubted of those right": 0.05}


def arguments():
    parser = argparse.ArgumentParser(prog="make photos", description=__doc__.split("\n")[0])
    parser.add_argument("--trainer", type=Path, default=ROOT / "target" / "release" / "trainer", help="the program")
    parser.add_argument("--run", type=Path, help="a finished run on MNIST; without it one is trained")
    parser.add_argument("--seeds", default="1,2,3", help="seeds of the pictures, with commas")
    parser.add_argument("--each", type=int, default=30, help="pictures of each kind and seed")
    parser.add_argument("--keep", type=Path, help="a directory to leave the pictures in")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "photos.md")
    return parser.parse_args()


def draw(directory, seed, each):
    """Files of a seed, with kind and digit of each."""
    drawn = {}
    for kind in KINDS:
        for number in range(each):
            content, ending, digit = picture(seed, kind, number)
            path = directory / f"{seed}-{kind.replace(' ', '-').replace(chr(39), '')}-{number:03}-{digit}.{ending}"
            path.write_bytes(content)
            drawn[str(path)] = (kind, digit)
    return drawn


def ask(trainer, run, drawn):
    """For each kind the numbers of right, right and doubted, wrong, wrong and doubted answers."""
    command = [trainer, "predict", "--run", run, "--format", "json", "--quiet", *drawn]
    answers = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                             check=True).stdout
    found = {kind: collections.Counter() for kind in KINDS}
    for line in answers.splitlines():
        answer = json.loads(line)
        kind, digit = drawn[answer["file"]]
        is_right, is_doubted = answer["class_index"] == digit, bool(answer["doubts"])
        found[kind][is_right, is_doubted] += 1
        if not is_right:
            print(f"{answer['file']}: {answer['class']}, {'; '.join(answer['doubts']) or 'no doubt'}", flush=True)
    return found


def shares(counts):
    right, wrong = (counts[is_right, False] + counts[is_right, True] for is_right in (True, False))
    part = lambda part, whole: part / whole if whole else None
    return {"right": part(right, right + wrong), "doubted of those wrong": part(counts[False, True], wrong),
            "doubted of those right": part(counts[True, True], right)}


def row(name, counts):
    total, wrong = sum(counts.values()), counts[False, False] + counts[False, True]
    share = lambda value: "" if value is None else f"{100 * value:.1f} %"
    of = shares(counts)
    return (f"| {name} | {total} | {total - wrong} | {share(of['right'])} | {wrong} | {counts[False, True]} | "
            f"{share(of['doubted of those wrong'])} | {counts[True, True]} | {share(of['doubted of those right'])} |")


HEAD = """| {} | pictures | right | | wrong | of those doubted | | right and doubted | |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


def page(options, found):
    by_kind, all_of_them = collections.defaultdict(collections.Counter), collections.Counter()
    by_seed = {}
    for seed, kinds in found.items():
        by_seed[seed] = sum(kinds.values(), collections.Counter())
        all_of_them.update(by_seed[seed])
        for kind, counts in kinds.items():
            by_kind[kind].update(counts)
    limits = ", ".join(f"{name}: at {'most' if name.endswith('right') and name != 'right' else 'least'} {100 * limit:.0f} %"
                       for name, limit in LIMITS.items())
    lines = [
        "# Photographs of digits", "",
        "`make photos` draws these images, classifies them with `trainer predict` and a network trained on MNIST "
        "(default settings), and writes this page. `scripts/photos/` composes the images: pen strokes in several "
        "handwritings, without any MNIST image, on lit paper, with the artefacts of a camera or a scanner. Every "
        "image is slightly rotated, unevenly lit and noisy, and most are JPEG files. The method was developed on "
        "seed 1 alone.", "",
        f"Limits over all images: {limits}.", "",
        HEAD.format("kind"), *[row(kind, by_kind[kind]) for kind in KINDS], row("all", all_of_them), "",
        HEAD.format("seed"), *[row(str(seed), counts) for seed, counts in by_seed.items()], "",
    ]
    options.out.write_text("\n".join(lines))
    return shares(all_of_them)


def main():
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="photos-") as scratch:
        directory = options.keep or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        run = options.run
        if run is None:
            run = Path(scratch) / "fit"
            subprocess.run([str(options.trainer), "--logdir", str(run), "--observe", "none", "--quiet"], check=True, cwd=ROOT)
        found = {}
        for seed in (int(seed) for seed in options.seeds.split(",")):
            found[seed] = ask(options.trainer, run, draw(directory, seed, options.each))
    reached = page(options, found)
    print(f"written: {options.out}", flush=True)
    short = [f"{name}: {reached[name]:.3f}" for name, limit in LIMITS.items() if reached[name] is not None
             and (reached[name] > limit if name == "doubted of those right" else reached[name] < limit)]
    if short:
        sys.exit("photos: " + "; ".join(short))


if __name__ == "__main__":
    main()
