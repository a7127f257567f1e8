"""The table of docs/reliability.md: a row for each goal, written by the command that tested it."""

import re
from pathlib import Path

BEGIN, END = "<!-- table: written by `make reliability` -->", "<!-- end of the table -->"
HEAD = ("| goal | what was tried | points | failures | found | time | commit |",
        "| --- | --- | ---: | ---: | --- | ---: | --- |")
ROW = re.compile(r"^\| *([^|]+?) *\|")
ORDER = re.compile(r"(\D*)(\d*)(.*)")


def row(tally, commit):
    cell = lambda text: str(text).replace("|", "\\|").replace("\n", " ")  # noqa: E731
    if tally.skipped:
        return f"| {tally.goal} | {cell(tally.tried)} | 0 | - | not tried: {cell(tally.skipped)} | - | {commit} |"
    return (f"| {tally.goal} | {cell(tally.tried)} | {tally.points:,} | {len(tally.failures)} | "
            f"{cell('; '.join(tally.found))} | {duration(tally.seconds)} | {commit} |")


def duration(seconds):
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def order(goal):
    letters, digits, rest = ORDER.match(goal).groups()
    return ({"R": 0}.get(letters, 1), int(digits or 0), letters, rest)


def merged(page, tallies, commit):
    """A page with new rows for these goals; rows of other goals stay."""
    before, _, rest = page.partition(BEGIN)
    table, _, after = rest.partition(END)
    if not rest or not _:
        raise ValueError(f"the page has no {BEGIN!r} and {END!r}")
    rows = {}
    for line in table.strip().splitlines()[2:]:
        rows[ROW.match(line)[1]] = line
    for tally in tallies:
        rows[tally.goal] = row(tally, commit)
    lines = [*HEAD, *(rows[goal] for goal in sorted(rows, key=order))]
    return f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}"


def write(path, tallies, commit):
    path = Path(path)
    path.write_text(merged(path.read_text(), tallies, commit))


def text(tallies):
    """The same for a terminal."""
    rows = [("goal", "points", "failures", "time", "what was tried, what was found")]
    for tally in tallies:
        said = f"not tried: {tally.skipped}" if tally.skipped else "; ".join([tally.tried, *tally.found])
        rows.append((tally.goal, f"{tally.points:,}", "-" if tally.skipped else str(len(tally.failures)),
                     duration(tally.seconds), said))
    widths = [max(len(cells[at]) for cells in rows) for at in range(4)]
    one, two, three, four = widths
    return "\n".join(f"{a:<{one}}  {b:>{two}}  {c:>{three}}  {d:>{four}}  {e}" for a, b, c, d, e in rows)
