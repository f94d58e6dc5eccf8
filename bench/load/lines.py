"""Say on a terminal what a load does, second by second, and what it came to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ferrisdb.bench.histogram import Histogram
from ferrisdb.bench.load.assertions import Verdict
from ferrisdb.bench.load.plan import Plan
from ferrisdb.bench.load.seconds import Second
from ferrisdb.bench.units import duration_text, rate_text

PERCENTILES = (50.0, 99.0, 99.9)


def live_head() -> str:
    """Return what stands above the live lines."""
    return f"{'second':>7} {'answered':>10}" + "".join(
        f" {name:>9}" for name in ("p50", "p99", "p99.9", "max")
    )


def live_line(second: Second) -> str:
    """Return a second's line."""
    found = second.all_latencies()
    figures = [*found.percentiles(PERCENTILES), found.max_ns()] if found.total else []
    cells = "".join(f" {duration_text(ns / 1000):>9}" for ns in figures) or f" {'-':>9}" * 4
    return f"{second.number + 1:>7} {found.total:>10,}{cells}{_troubles(second)}"


def summary(total: Second, seconds: float, plan: Plan) -> Iterator[str]:
    """Yield what all of it came to."""
    loop = "closed loop"
    if plan.rate_per_s is not None:
        loop = f"open loop at {rate_text(plan.rate_per_s)}/s"
    yield (
        f"{plan.target.text}: {plan.clients} clients, {loop}, {seconds:.1f} s: "
        f"{total.operations:,} operations, {rate_text(total.operations / max(seconds, 1e-9))}/s"
    )
    yield f"{'':10} {'operations':>12}" + "".join(
        f" {name:>9}" for name in ("mean", "p50", "p90", "p99", "p99.9", "p99.99", "max")
    )
    rows = {"all": total.all_latencies(), **dict(sorted(total.latencies.items()))}
    for kind, histogram in rows.items():
        if histogram.total:
            yield _row(kind, histogram)
    for kind, count in sorted(total.errors_by_kind().items()):
        yield f"errors: {count:,} {kind}"
    if total.reconnects:
        yield f"connections made again: {total.reconnects:,}"
    yield f"values compared: {total.verified:,}" + ("" if total.wrong else "; all right")
    for fault, count in total.wrong.items():
        yield f"WRONG: {count:,} values: {fault}"


def verdict_lines(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """Yield a line for each assertion."""
    for verdict in verdicts:
        yield f"{'held  ' if verdict.held else 'MISSED'} {verdict.text}: {verdict.found}"


def _row(kind: str, histogram: Histogram) -> str:
    figures = [
        histogram.mean_ns(),
        *histogram.percentiles([50, 90, 99, 99.9, 99.99]),
        histogram.max_ns(),
    ]
    return f"{kind:10} {histogram.total:>12,}" + "".join(
        f" {duration_text(ns / 1000):>9}" for ns in figures
    )


def _troubles(second: Second) -> str:
    parts = [f"{count:,} {kind}" for kind, count in sorted(second.errors_by_kind().items())]
    parts += [f"{count:,} WRONG: {fault}" for fault, count in second.wrong.items()]
    if second.reconnects:
        parts.append(f"{second.reconnects} connected again")
    return f"   {', '.join(parts)}" if parts else ""
