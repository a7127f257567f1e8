"""The project's performance limits, each with a measured number."""

from dataclasses import dataclass

from bench.figures import markdown

HEAD = ["what", "wanted", "found", ""]


@dataclass(frozen=True)
class Limit:
    """One number of a section, and its lower or upper limit."""

    what: str
    least: float = None
    most: float = None
    unit: str = "times"

    def shown(self, number):
        text = f"{number:,.0f}" if number >= 1000 else f"{number:.4g}"
        return f"{text} {self.unit}".strip()

    def wanted(self):
        return f"at least {self.shown(self.least)}" if self.most is None else f"at most {self.shown(self.most)}"

    def holds(self, number):
        return number >= self.least if self.most is None else number <= self.most

    def row(self, number):
        return [self.what, self.wanted(), self.shown(number), "yes" if self.holds(number) else "**no**"]


def table(sections, measured, old_rows):
    """Wanted and found for each limit: of this run where its section was measured, else the row that the page has."""
    rows = []
    for name, section in sections.items():
        found = section.held(measured[name]) if name in measured else {}
        for key, limit in section.LIMITS.items():
            if key in found:
                rows.append(limit.row(found[key]))
            elif name not in measured and limit.what in old_rows:
                rows.append(old_rows[limit.what])
    return markdown(HEAD, rows)


def rows_of(text):
    """The rows of such a table, by their first cell."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| ") and len(cells) == len(HEAD) and cells[0] not in (HEAD[0], "---"):
            found[cells[0]] = cells
    return found


def shortcomings(sections, measured):
    """A sentence for each limit that does not hold, and for each that could not be measured."""
    for name, found in measured.items():
        held = sections[name].held(found)
        for key, limit in sections[name].LIMITS.items():
            if key not in held:
                yield f"{limit.what}: not measured, {limit.wanted()} wanted"
            elif not limit.holds(held[key]):
                yield f"{limit.what}: {limit.shown(held[key])}, {limit.wanted()} wanted"
