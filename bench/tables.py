"""Print a run as tables: for each group its engines, their rates, and how ours compares."""

from __future__ import annotations

from collections.abc import Iterator

from ferrisdb.bench.engine_looks import OURS, OURS_BY_SOCKET, compared_with
from ferrisdb.bench.results import Group, Measured, Results, Spread
from ferrisdb.bench.units import duration_text, rate_text, ratio_text

SHOWN = ("p50_us", "p99_us", "p99.9_us")
WIDTHS = (15, 12, 23, 28, 9, 9, 9)
"""Of the columns: engine, rate, spread, comparison, latencies."""


def run_lines(results: Results) -> Iterator[str]:
    """Yield a run's tables, and behind them the engines that were not measured."""
    for group in results.groups:
        yield from group_lines(group)
        yield ""
    for engine in results.engines:
        _settings, missing = results.settings(engine)
        if missing:
            yield f"{engine} was not measured: {missing}"


def group_lines(group: Group) -> Iterator[str]:
    """Yield the table of one group."""
    yield f"{group.title}  ({key_text(group)})"
    kind = main_kind(group)
    unit = next((each.unit for each in group.measured.values()), "operation")
    heads = [name.removesuffix("_us") if kind else "" for name in SHOWN]
    yield _row("", f"{unit}s/s", "[spread]", "ours is", f"{kind or ''} {heads[0]}", *heads[1:])
    for measured in group.measured.values():
        latencies = [measured.latency(kind, name) if kind else None for name in SHOWN]
        yield _row(
            measured.engine,
            rate_text(measured.rate.median),
            spread_text(measured),
            comparison(group, measured.engine),
            *(duration_text(each.median) if each else "" for each in latencies),
        )
        if measured.errors:
            yield f"  {'':15} {measured.errors:,} operations failed"
        yield from (f"  {'':15} {note}" for note in measured.notes)
    for engine, reasons in group.wrong.items():
        yield from (f"  {engine:15} WRONG: {reason}" for reason in reasons)
    for engine, reason in group.lacking.items():
        yield f"  {engine:15} - {reason}"


def key_text(group: Group) -> str:
    """Return what a group is, beside its workload."""
    key = group.key
    clients = "1 client" if key.clients == 1 else f"{key.clients} clients"
    rate = "" if key.target_per_s is None else f" at {rate_text(key.target_per_s)}/s"
    return f'{clients}, "{key.durability}", {key.loop} loop{rate}'


def main_kind(group: Group) -> str | None:
    """Return the kind of operation of which there are most; None if no latency is known."""
    counts: dict[str, float] = {}
    for measured in group.measured.values():
        for kind in measured.operations():
            count = measured.latency(kind, "count")
            counts[kind] = max(counts.get(kind, 0), count.median if count else 0)
    return max(counts, key=lambda kind: counts[kind]) if counts else None


def spread_text(measured: Measured) -> str:
    """Return what the rounds lie between; "" where there was but one."""
    if len(measured.rounds) < 2:
        return ""
    rate = measured.rate
    return f"[{rate_text(rate.low)} .. {rate_text(rate.high)}]"


def comparison(group: Group, engine: str) -> str:
    """Return what rate ours has beside another engine: "2.10 × [2.00 .. 2.20]"; "" for ours.

    An engine behind a socket is compared with ours behind a socket, which is then said. In an open
    loop all have the rate that they were asked for, and there is nothing to compare.
    """
    if group.key.target_per_s is not None:
        return ""
    ours = compared_with(engine)
    if ours == OURS_BY_SOCKET and ours not in group.measured:
        ours = OURS
    ratio = group.ratio(ours, engine) if ours else None
    if ratio is None or ours is None:
        return ""
    return ratio_with_spread(ratio) + (" socket" if ours == OURS_BY_SOCKET else "")


def ratio_with_spread(ratio: Spread) -> str:
    """Return a ratio, and what it lies between unless that is itself."""
    text = ratio_text(ratio.median)
    if ratio.low == ratio.high:
        return text
    low, high = (ratio_text(bound).removesuffix(" ×") for bound in (ratio.low, ratio.high))
    return f"{text} [{low} .. {high}]"


def _row(*cells: str) -> str:
    aligned = [
        f"{cell:<{width}}" if at in (0, 2, 3) else f"{cell:>{width}}"
        for at, (width, cell) in enumerate(zip(WIDTHS, cells, strict=True))
    ]
    return ("  " + " ".join(aligned)).rstrip()
