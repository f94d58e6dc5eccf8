"""Show what became of the rows: a table for people, and one for RESULTS.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ferrisdb.bench.budget.figures import OURS, Figure, Measured, Row, Verdict

HEAD = ("work", "ferrisdb", "peers", "ratio", "asked", "holds")


def lines(measured: Sequence[Measured]) -> Iterator[str]:
    """Yield a table's lines, aligned."""
    cells = [HEAD, *_cells(measured, lambda row: row.name)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEAD))]
    for row in cells:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()


def markdown(measured: Sequence[Measured]) -> Iterator[str]:
    """Yield the same table in Markdown."""
    yield f"| {' | '.join(HEAD)} |"
    yield f"|{' --- |' * len(HEAD)}"
    for row in _cells(measured, lambda row: row.work):
        yield f"| {' | '.join(row)} |"


def _cells(measured: Sequence[Measured], name: Callable[[Row], str]) -> Iterator[tuple[str, ...]]:
    for each in measured:
        if each.why is not None:
            yield (name(each.row), "", "", "", _all_asked(each), f"not measured: {each.why}")
            continue
        verdicts = each.verdicts()
        for figure in each.figures:
            work = name(each.row)
            if len(each.figures) > 1:
                work = f"{work}: {figure.name}"
            own = [verdict for verdict in verdicts if verdict.figure == figure.name]
            yield (
                work,
                amount(figure, OURS) if OURS in figure.rounds else "",
                "; ".join(f"{name} {amount(figure, name)}" for name in _peers(figure)),
                "; ".join(_ratio(verdict) for verdict in own),
                "; ".join(verdict.asked for verdict in own),
                "; ".join("holds" if verdict.holds else "does not" for verdict in own),
            )
        for asked in each.not_compared():
            yield (name(each.row), "", "", "", asked.text(), "nothing to compare with")


def _all_asked(each: Measured) -> str:
    return "; ".join(asked.text() for asked in each.row.asked)


def _peers(figure: Figure) -> list[str]:
    return [name for name in figure.rounds if name != OURS and figure.rounds[name]]


def amount(figure: Figure, engine: str) -> str:
    """Return an engine's median with its range and unit."""
    values = figure.rounds[engine]
    text = f"{number(figure.median(engine))} {figure.unit}"
    if len(values) > 1:
        text += f" [{number(min(values))}–{number(max(values))}]"
    return text


def _ratio(verdict: Verdict) -> str:
    if verdict.peer is None:
        return ""
    text = f"{number(verdict.value)} × {verdict.peer}"
    if verdict.low != verdict.high:
        text += f" [{number(verdict.low)}–{number(verdict.high)}]"
    return text


def number(value: float) -> str:
    """Return a number with three digits that say something, thousands apart."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.95 else 3
    return f"{value:.{digits}f}"
