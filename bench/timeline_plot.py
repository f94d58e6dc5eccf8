"""Draw a load second by second: what was answered, how late, and what failed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ferrisdb.bench import drawing
from ferrisdb.bench.drawing import FAINT, MUTED, Picture
from ferrisdb.bench.load.output import TIMELINE_NAME
from ferrisdb.bench.machine_line import machine_line
from ferrisdb.bench.results import ResultsError
from ferrisdb.bench.units import rate_text, tick_rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RATE_COLOUR: Final = "#0072b2"
LATENCIES: Final = (
    ("p50_us", "p50", "#56b4e9"),
    ("p99_us", "p99", "#0072b2"),
    ("p99.9_us", "p99.9", "#cc79a7"),
    ("max_us", "max", "#d55e00"),
)
ERROR_COLOURS: Final = ("#d55e00", "#e69f00", "#cc79a7", "#8c5a3c", "#8a8a8a")


@dataclass(frozen=True, slots=True)
class LoadTimeline:
    """What a load has written to its timeline."""

    arguments: Mapping[str, Any]
    seconds: Sequence[Mapping[str, Any]]
    verdicts: Sequence[Mapping[str, Any]]


def read_timeline(folder: Path) -> LoadTimeline | None:
    """Return the timeline of a load's folder; None where there is none.

    Raises:  ResultsError.
    """
    path = folder / TIMELINE_NAME
    if not path.exists():
        return None
    of_kind: dict[str, list[dict[str, Any]]] = {"load": [], "second": [], "verdict": []}
    try:
        # A load that was killed has left half a line at the end.
        *lines, _torn = path.read_text(encoding="utf-8").split("\n")
        for line in lines:
            row = json.loads(line)
            of_kind[row["kind"]].append(row)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{path}: {error!r}") from None
    first = of_kind["load"]
    return LoadTimeline(first[0] if first else {}, of_kind["second"], of_kind["verdict"])


def timeline(found: LoadTimeline, machine: Mapping[str, Any]) -> Picture | None:
    """Draw it; within `drawing.style`.

    Returns: None of a load without a second.
    """
    if not found.seconds:
        return None
    errors = _errors(found.seconds)
    figure = drawing.new_figure(11.0, 5.6 + (1.6 if errors else 0))
    ratios = [2, 3, 1.4] if errors else [2, 3]
    charts = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios).tolist()
    ends = [row["second"] + row["seconds"] for row in found.seconds]
    _draw_rate(charts[0], ends, found)
    _draw_latencies(charts[1], found.seconds)
    if errors:
        _draw_errors(charts[2], found.seconds, errors)
    charts[-1].set_xlabel("seconds")
    charts[-1].set_xlim(0, ends[-1])
    target = found.arguments.get("target", "")
    text = f"Rate, latencies and errors of a load of {target} over {ends[-1]:.0f} seconds."
    return drawing.finish(figure, "timeline", text, machine_line(machine))


def _draw_rate(axes: Axes, ends: Sequence[float], found: LoadTimeline) -> None:
    rates = [row["rate_per_s"] for row in found.seconds]
    edges = [0.0, *ends]
    axes.stairs(rates, edges, fill=True, color=RATE_COLOUR, alpha=0.25)
    axes.stairs(rates, edges, color=RATE_COLOUR, linewidth=1.2)
    wanted = found.arguments.get("rate_per_s")
    if wanted:
        axes.axhline(wanted, color=MUTED, linewidth=1, linestyle="--")
    axes.set_ylim(0, max([*rates, wanted or 0, 1]) * 1.12)
    axes.yaxis.set_major_formatter(lambda value, _at: tick_rate(value))
    axes.grid(axis="y", color=FAINT)
    note = f" (dashed: {rate_text(wanted)} were wanted)" if wanted else ""
    axes.set_title(f"operations answered, a second{note}")


def _draw_latencies(axes: Axes, seconds: Sequence[Mapping[str, Any]]) -> None:
    middles = [row["second"] + row["seconds"] / 2 for row in seconds]
    for name, label, colour in LATENCIES:
        # A gap where nothing was answered.
        values = [
            row["latency"]["all"][name] if row["operations"] else float("nan") for row in seconds
        ]
        marker = "o" if len(seconds) < 60 else None
        axes.plot(
            middles, values, label=label, color=colour, linewidth=1.2, marker=marker, markersize=3
        )
    drawing.plain_log(axes)
    axes.grid(axis="y", color=FAINT)
    axes.set_title("latency of those that ended in that second")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)


def _draw_errors(
    axes: Axes,
    seconds: Sequence[Mapping[str, Any]],
    kinds: Sequence[str],
) -> None:
    below = [0] * len(seconds)
    widths = [row["seconds"] for row in seconds]
    lefts = [row["second"] for row in seconds]
    for at, kind in enumerate(kinds):
        counts = [_troubles(row).get(kind, 0) for row in seconds]
        colour = ERROR_COLOURS[at % len(ERROR_COLOURS)]
        axes.bar(lefts, counts, widths, below, align="edge", color=colour, label=kind)
        below = [low + count for low, count in zip(below, counts, strict=True)]
    axes.set_ylim(0, max(below) * 1.15)
    axes.yaxis.set_major_formatter(lambda value, _at: tick_rate(value))
    axes.grid(axis="y", color=FAINT)
    axes.set_title("operations failed, and wrong values")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)


def _errors(seconds: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({kind for row in seconds for kind in _troubles(row)})


def _troubles(row: Mapping[str, Any]) -> dict[str, int]:
    return {**row["errors"], **{f"WRONG: {kind}": n for kind, n in row["wrong"].items()}}
