"""Numbers of many rounds: order of subjects, medians, ratios within a round, and rows of a table."""

import statistics

US = "trainer"


def turns(subjects, number):
    """The order of a round: the first subject runs in the state left by the others, so every other round is reversed."""
    return list(subjects) if number % 2 == 0 else list(reversed(list(subjects)))


def rounds(options, section, subjects):
    """Yields (number of the round, subject), and says so."""
    for number in range(options.rounds):
        for subject in turns(subjects, number):
            print(f"{section}, round {number + 1} of {options.rounds}: {subject}", flush=True)
            yield number, subject


def median(values):
    return statistics.median(values)


def figure(number):
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def spread(values, form=figure):
    return f"{form(min(values))} to {form(max(values))}"


def ratios(more, less):
    """Ratios within each round."""
    return [one / other for one, other in zip(more, less)]


def ratio(more, less):
    """The median of the ratios within a round."""
    return median(ratios(more, less))


def ratio_cell(values, form="{:.2f}"):
    return f"**{form.format(median(values))}** ({spread(values, form.format)})"


def markdown(head, rows):
    """The lines of a table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def rates(unit, values, more=None):
    """A table of rates: name -> one number a round. `more` is head -> name -> cell."""
    return _compared(unit, values, f"{US} / this (range)", lambda ours, theirs: ratios(ours, theirs), more)


def costs(unit, values, more=None):
    """The same for costs, such as seconds."""
    return _compared(unit, values, f"this / {US} (range)", lambda ours, theirs: ratios(theirs, ours), more)


def _compared(unit, values, head, compare, more):
    ours = values.get(US)
    heads = ["", f"median, {unit}", "range", *([head] if ours else [])]
    rows = []
    for subject, numbers in values.items():
        cells = [subject, figure(median(numbers)), spread(numbers)]
        if ours:
            cells.append("1" if subject == US else ratio_cell(compare(ours, numbers)))
        rows.append(cells)
    for name, cells in (more or {}).items():
        heads.append(name)
        for row in rows:
            row.append(cells.get(row[0], ""))
    return markdown(heads, rows)
