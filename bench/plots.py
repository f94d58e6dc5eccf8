"""Draw a run: throughput as bars, latencies over percentiles, rates over clients.

An engine looks the same everywhere, whiskers are the smallest and the largest round, and a line
under each plot says what it was measured on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from ferrisdb.bench import drawing
from ferrisdb.bench.drawing import FAINT, INK, MUTED, Picture
from ferrisdb.bench.engine_looks import look_of
from ferrisdb.bench.hdr_codec import HdrFormatError
from ferrisdb.bench.histogram import Histogram
from ferrisdb.bench.histogram_log import merged, percentile_rows
from ferrisdb.bench.machine_line import machine_line
from ferrisdb.bench.results import Group, Measured, Results
from ferrisdb.bench.tables import key_text
from ferrisdb.bench.units import short_rate, tick_rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS: Final = 4
NINES: Final = (50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999)
CLIENT_COUNTS_MIN: Final = 3
"""As many different numbers of clients make a line."""


def slug(text: str) -> str:
    """Return a text as a part of a file's name."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "x"


def overview(results: Results, workloads: Sequence[str] = (), name: str = "throughput") -> Picture:
    """Draw the throughput of all workloads, a small chart each; within `drawing.style`.

    Shape:   workloads, those to draw; none: all.
    """
    groups = main_groups(results, workloads)
    engines = _engines_of(results, groups)
    columns = min(COLUMNS, max(len(groups), 1))
    rows = -(-len(groups) // columns) if groups else 1
    figure = drawing.new_figure(3.1 * columns, (0.72 + 0.21 * len(engines)) * rows + 0.3)
    charts = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for at, axes in enumerate(charts):
        if at >= len(groups):
            axes.set_visible(False)
            continue
        _draw_bars(axes, groups[at], engines, label_engines=at % columns == 0)
        axes.set_title(groups[at].key.workload)
        axes.text(
            1, 1.03, _short_key(groups[at]), transform=axes.transAxes, color=MUTED, fontsize=7,
            ha="right", va="bottom",
        )  # fmt: skip
    text = f"Throughput of {len(groups)} workloads on {', '.join(engines)}."
    return drawing.finish(figure, name, text, _footer(results, _unit_note(groups)))


def throughput(results: Results, group: Group) -> Picture:
    """Draw one group's rates as bars; within `drawing.style`."""
    engines = _engines_of(results, [group])
    figure = drawing.new_figure(7.2, 1.0 + 0.3 * len(engines))
    axes = figure.subplots()
    _draw_bars(axes, group, engines, label_engines=True)
    _title(axes, group.title, key_text(group))
    name = f"throughput.{group_slug(group)}"
    text = f"Rates of {', '.join(engines)}: {group.title}, {key_text(group)}."
    return drawing.finish(figure, name, text, _footer(results, _unit_note([group])))


def latency(results: Results, group: Group) -> Picture | None:
    """Draw one group's latencies over percentiles; within `drawing.style`.

    Returns: None where there are no histograms.
    """
    curves = {
        engine: found
        for engine, measured in group.measured.items()
        if (found := histograms(results, measured))
    }
    kinds = list(dict.fromkeys(kind for found in curves.values() for kind in found))
    if not kinds:
        return None
    figure = drawing.new_figure(1.5 + (6.0 if len(kinds) == 1 else 4.5 * len(kinds)), 3.9)
    charts = figure.subplots(1, len(kinds), sharey=True, squeeze=False).flatten().tolist()
    for kind, axes in zip(kinds, charts, strict=True):
        most = 1
        for engine, found in curves.items():
            if kind in found:
                most = max(most, found[kind].total)
                _draw_curve(axes, engine, found[kind])
        _label_nines(axes, most)
        axes.set_title(kind or "all operations")
    charts[0].set_ylabel("latency")
    charts[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    figure.suptitle(f"{group.title}, {key_text(group)}", x=0.01, ha="left", fontsize=10)
    text = f"Latency over percentiles of {', '.join(curves)}: {group.title}, {key_text(group)}."
    return drawing.finish(figure, f"latency.{group_slug(group)}", text, _footer(results))


def scaling(results: Results) -> Iterator[Picture]:
    """Draw rates over the number of clients, where there are enough; within `drawing.style`."""
    families: dict[tuple[str, str, str], list[Group]] = {}
    for group in results.groups:
        key = group.key
        if key.target_per_s is None:
            families.setdefault((key.workload, key.durability, key.loop), []).append(group)
    for (workload, durability, loop), groups in families.items():
        counts = sorted({group.key.clients for group in groups})
        if len(counts) < CLIENT_COUNTS_MIN:
            continue
        groups.sort(key=lambda group: group.key.clients)
        figure = drawing.new_figure(7.2, 4.0)
        axes = figure.subplots()
        for engine in _engines_of(results, groups):
            _draw_scaling(axes, engine, [g for g in groups if engine in g.measured])
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(count) for count in counts], minor=False)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _at: tick_rate(value))
        axes.grid(axis="y")
        axes.set_xlabel("clients")
        axes.set_ylabel(_unit_note(groups))
        _title(axes, groups[0].title, f'"{durability}", {loop} loop')
        axes.legend(fontsize=8)
        text = f"Rates over {counts[0]} to {counts[-1]} clients: {groups[0].title}."
        name = f"scaling.{slug(workload)}.{slug(durability)}.{slug(loop)}"
        yield drawing.finish(figure, name, text, _footer(results))


def group_slug(group: Group) -> str:
    """Return a group's part of a file's name."""
    key = group.key
    rate = "" if key.target_per_s is None else f".{key.target_per_s:.0f}"
    return f"{slug(key.workload)}.c{key.clients}.{slug(key.durability)}.{slug(key.loop)}{rate}"


def main_groups(results: Results, workloads: Sequence[str] = ()) -> list[Group]:
    """Return one group of each workload: the one that most engines have, closed rather than open.

    Raises:  KeyError, the run has no such workload.
    """
    found = results.workloads()
    names = workloads or list(found)
    return [
        max(found[name], key=lambda g: (len(g.measured), g.key.loop == "closed")) for name in names
    ]


def histograms(results: Results, measured: Measured) -> dict[str, Histogram]:
    """Return the latencies of all rounds by kind; a file that is missing or damaged has none."""
    found: dict[str, Histogram] = {}
    for cell in measured.rounds:
        if cell.histogram is None:
            continue
        path = results.folder / cell.histogram
        # A result may come from anybody: nothing outside of its folder is read.
        if not path.resolve().is_relative_to(results.folder.resolve()):
            continue
        try:
            parts = merged(path)
        except (OSError, HdrFormatError):
            continue
        for kind, histogram in parts.items():
            found.setdefault(kind, Histogram()).merge(histogram)
    return found


def _engines_of(results: Results, groups: Sequence[Group]) -> list[str]:
    """Return the engines that some groups have, always in the run's order."""
    there = {engine for group in groups for engine in group.engines}
    return [engine for engine in results.engines if engine in there]


def _short_key(group: Group) -> str:
    clients = f"{group.key.clients} client{'s' * (group.key.clients != 1)}"
    return f"{clients}, {group.key.durability}"


def _unit(group: Group) -> str:
    return next(iter(group.measured.values())).unit


def _unit_note(groups: Sequence[Group]) -> str:
    units = {_unit(group) for group in groups if group.measured}
    return " and ".join(f"{unit}s" for unit in sorted(units)) + " a second" if units else ""


def _footer(results: Results, note: str = "") -> str:
    return " · ".join(part for part in (note, machine_line(results.machine)) if part)


def _draw_bars(axes: Axes, group: Group, engines: Sequence[str], *, label_engines: bool) -> None:
    """Draw a bar for each engine, from top to bottom."""
    places = np.arange(len(engines))
    most = max((each.rate.high for each in group.measured.values()), default=1.0) or 1.0
    for place, engine in zip(places.tolist(), engines, strict=True):
        measured = group.measured.get(engine)
        if measured is None:
            note = "wrong" if engine in group.wrong else "–"
            axes.text(most * 0.01, place, note, va="center", fontsize=7.5, color=MUTED)
            continue
        rate = measured.rate
        axes.barh(place, rate.median, height=0.72, color=look_of(engine).colour)
        if rate.high > rate.low:
            axes.plot([rate.low, rate.high], [place, place], color=INK, linewidth=1.1)
        axes.text(
            rate.high + most * 0.02, place, short_rate(rate.median), va="center", fontsize=7.5
        )
    axes.set_yticks(places, engines if label_engines else ["" for _ in engines])
    axes.set_ylim(len(engines) - 0.5, -0.5)
    axes.set_xlim(0, most * 1.22)
    axes.set_xticks([])
    drawing.hide_frame(axes)


def _draw_curve(axes: Axes, engine: str, histogram: Histogram) -> None:
    rows = list(percentile_rows(histogram))
    # 100 % lies in infinity; what is left at the end is the slowest of `total`.
    last = 100 - 100 / max(histogram.total, 2)
    percentiles = np.minimum([part for _us, part, _count in rows], last)
    axes.plot(
        -np.log10(1 - percentiles / 100),
        [max(us, 0.001) for us, _part, _count in rows],
        color=look_of(engine).colour,
        marker=look_of(engine).mark,
        markevery=max(len(rows) // 8, 1),
        markersize=4,
        linewidth=1.5,
        label=engine,
    )


def _label_nines(axes: Axes, count: int) -> None:
    """Label the axis of percentiles, as far as so many latencies reach."""
    end = float(np.log10(max(count, 10)))
    shown = [part for part in NINES if -np.log10(1 - part / 100) <= end + 1e-9]
    axes.set_xticks([-float(np.log10(1 - part / 100)) for part in shown],
                    [f"{part:g} %" for part in shown])  # fmt: skip
    axes.set_xlim(0, end * 1.02)
    drawing.plain_log(axes)
    axes.grid(color=FAINT)
    axes.set_xlabel("percentile")


def _title(axes: Axes, title: str, more: str) -> None:
    axes.set_title(title, pad=17)
    axes.text(
        0, 1, more, transform=axes.transAxes, color=MUTED, fontsize=8, va="bottom",
    )  # fmt: skip


def _draw_scaling(axes: Axes, engine: str, groups: Sequence[Group]) -> None:
    if not groups:
        return
    rates = [group.measured[engine].rate for group in groups]
    medians = np.array([rate.median for rate in rates])
    axes.errorbar(
        [group.key.clients for group in groups],
        medians,
        yerr=[medians - [rate.low for rate in rates], [rate.high for rate in rates] - medians],
        color=look_of(engine).colour,
        marker=look_of(engine).mark,
        markersize=5,
        linewidth=1.6,
        elinewidth=1.0,
        capsize=2,
        label=engine,
    )
