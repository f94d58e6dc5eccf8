"""Write a run as one HTML page that needs nothing beside it: no network, no scripts.

Whatever a result says is escaped, for it may come from anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final

from ferrisdb.bench.drawing import Picture
from ferrisdb.bench.engine_looks import look_of
from ferrisdb.bench.machine_line import machine_line
from ferrisdb.bench.page_style import STYLE
from ferrisdb.bench.results import Group, Measured, Results
from ferrisdb.bench.tables import comparison, key_text, spread_text
from ferrisdb.bench.units import duration_text, rate_text

LATENCIES: Final = ("p50_us", "p90_us", "p99_us", "p99.9_us", "p99.99_us", "max_us")

HOW_TO_READ: Final = """
<p>Bars and figures are medians of the rounds, whiskers and brackets the smallest and the largest
round. Rounds of the engines took turns, so that a machine's drift hits all of them. <i>Ours is</i>
says how many times the other engine's rate FerrisDB reached. An engine that is reached by a socket
is compared with FerrisDB behind a socket.</p>
<p>In a <i>closed loop</i> a client sends its next operation when the last was answered: a store
that stalls is asked less. In an <i>open loop</i> operations begin on a schedule, and a latency
counts from the moment when the operation should have begun: what waits behind a stall is seen.</p>
<p>p99 says that 99 % of the operations took no longer, within 0.1 %. <i>Verified</i> says how many
values were compared with what they had to be; an engine that answered wrongly has no figure.</p>
"""


@dataclass(frozen=True, slots=True)
class Pictures:
    """The plots of a page; none where matplotlib is missing, which `note` says then."""

    overview: Picture | None = None
    #: By the group's place in the run.
    latency: Mapping[int, Picture] = field(default_factory=dict)
    scaling: Sequence[Picture] = ()
    timeline: Sequence[Picture] = ()
    note: str = ""

    def all(self) -> list[Picture]:
        """Return every one."""
        overview = [self.overview] if self.overview else []
        return [*overview, *self.latency.values(), *self.scaling, *self.timeline]


def page(results: Results, pictures: Pictures, verdicts: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return the page.

    Shape:   verdicts, those of a load: "text", "held" and "found" of each.
    """
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            "<title>FerrisDB bench</title>",
            f"<style>{STYLE}</style></head><body><main>",
            *_head(results, pictures),
            *_verdicts(verdicts),
            *_section("Second by second", _figures(pictures.timeline)),
            *_summary(results, pictures),
            *_wrong(results),
            *_workloads(results, pictures),
            *_section("Over the number of clients", _figures(pictures.scaling)),
            *_section("How to read this", [HOW_TO_READ]),
            *_engines(results),
            *_machine(results),
            "</main></body></html>\n",
        ]
    )


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table; its cells are HTML, all but the first of a row aligned to the right."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    whole = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="wide"><table>{whole}</table></div>'


def engine_name(engine: str) -> str:
    """Return an engine's name beside its colour."""
    return f'<i class="dot" style="background:{look_of(engine).colour}"></i>{escape(engine)}'


def _head(results: Results, pictures: Pictures) -> Iterator[str]:
    yield "<h1>FerrisDB bench</h1>"
    yield f'<p class="muted">{escape(machine_line(results.machine))}</p>'
    if pictures.note:
        yield f'<p class="note">{escape(pictures.note)}</p>'


def _verdicts(verdicts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = [
        [
            escape(str(verdict.get("text"))),
            '<b class="good">held</b>' if verdict.get("held") else '<b class="bad">missed</b>',
            escape(str(verdict.get("found"))),
        ]
        for verdict in verdicts
    ]
    if rows:
        yield from _section("Thresholds", [table(["threshold", "", "found"], rows)])


def _figures(pictures: Iterable[Picture]) -> Iterator[str]:
    for picture in pictures:
        yield (
            f'<figure role="img" aria-label="{escape(picture.text)}">'
            f"{picture.inline_svg()}</figure>"
        )


def _section(title: str, parts: Iterable[str]) -> Iterator[str]:
    found = list(parts)
    if found:
        yield f"<section><h2>{escape(title)}</h2>"
        yield from found
        yield "</section>"


def _summary(results: Results, pictures: Pictures) -> Iterator[str]:
    if len(results.groups) < 2:
        return
    parts = list(_figures([pictures.overview] if pictures.overview else []))
    engines = [
        engine
        for engine in results.engines
        if any(engine in group.engines for group in results.groups)
    ]
    rows = []
    for at, group in enumerate(results.groups):
        cells = [f'<a href="#group-{at}">{escape(group.title)}</a><br><small>'
                 f"{escape(key_text(group))}</small>"]  # fmt: skip
        for engine in engines:
            measured = group.measured.get(engine)
            if measured is None:
                there = "–" if engine in group.lacking else ""
                cells.append('<b class="bad">wrong</b>' if engine in group.wrong else there)
                continue
            ratio = comparison(group, engine).partition("[")[0].removesuffix(" socket")
            cells.append(f"{rate_text(measured.rate.median)}<br><small>{escape(ratio)}</small>")
        rows.append(cells)
    parts.append(table(["a second; below it: ours is", *engines], rows))
    yield from _section("All of it", parts)


def _wrong(results: Results) -> Iterator[str]:
    rows = [
        [escape(group.title), escape(key_text(group)), engine_name(engine), escape(reason)]
        for group in results.groups
        for engine, reasons in group.wrong.items()
        for reason in reasons
    ]
    if rows:
        heads = ["workload", "", "engine", "why"]
        yield from _section("What went wrong", [f'<div class="words">{table(heads, rows)}</div>'])


def _workloads(results: Results, pictures: Pictures) -> Iterator[str]:
    for at, group in enumerate(results.groups):
        yield f'<section id="group-{at}"><h2>{escape(group.title)}</h2>'
        yield f'<p class="muted">{escape(group.key.workload)}: {escape(key_text(group))}</p>'
        if group.measured:
            yield _rates(group)
            yield _latencies(group)
        for engine, reasons in group.wrong.items():
            for reason in reasons:
                yield f'<p><b class="bad">{escape(engine)}</b>: {escape(reason)}</p>'
        for engine, reason in group.lacking.items():
            yield f'<p class="muted">{escape(engine)}: {escape(reason)}</p>'
        yield from _figures([pictures.latency[at]] if at in pictures.latency else [])
        yield "</section>"


def _rates(group: Group) -> str:
    most = max((each.rate.median for each in group.measured.values()), default=0) or 1
    unit = next(iter(group.measured.values())).unit
    heads = ["engine", f"{unit}s a second", "", "spread", "ours is", "verified", "errors"]
    return table(
        heads,
        (
            [
                engine_name(measured.engine) + _notes(measured),
                rate_text(measured.rate.median),
                _bar(measured, most),
                escape(spread_text(measured)),
                escape(comparison(group, measured.engine)),
                f"{measured.verified:,}",
                f'<b class="bad">{measured.errors:,}</b>' if measured.errors else "0",
            ]
            for measured in group.measured.values()
        ),
    )


def _notes(measured: Measured) -> str:
    return "".join(f"<br><small>{escape(note)}</small>" for note in measured.notes)


def _bar(measured: Measured, most: float) -> str:
    share = 100 * measured.rate.median / most
    colour = look_of(measured.engine).colour
    return f'<div class="bar"><div style="width:{share:.1f}%;background:{colour}"></div></div>'


def _latencies(group: Group) -> str:
    rows = []
    kinds = [kind for each in group.measured.values() for kind in each.operations()]
    for kind in dict.fromkeys(kinds):
        for measured in group.measured.values():
            if kind not in measured.operations():
                continue
            found = [measured.latency(kind, figure) for figure in LATENCIES]
            texts = [duration_text(each.median) if each else "" for each in found]
            rows.append([engine_name(measured.engine), escape(kind), *texts])
    heads = ["latency", "", *(figure.removesuffix("_us") for figure in LATENCIES)]
    return table(heads, rows) if rows else ""


def _engines(results: Results) -> Iterator[str]:
    rows = []
    versions = results.machine.get("versions") or {}
    for engine in results.engines:
        settings, missing = results.settings(engine)
        words = escape(settings or "") if not missing else f"not measured: {escape(missing)}"
        rows.append([engine_name(engine), escape(str(versions.get(engine, ""))), words])
    if any(row[2] for row in rows):
        yield from _section(
            "The engines and their settings",
            [f'<div class="words">{table(["engine", "version", "settings"], rows)}</div>'],
        )


def _machine(results: Results) -> Iterator[str]:
    rows = [
        [escape(str(name)), escape(str(value))]
        for name, value in results.machine.items()
        if name not in ("kind", "engines")
    ]
    if rows:
        yield from _section("Where, and how", [f'<div class="words">{table(["", ""], rows)}</div>'])
