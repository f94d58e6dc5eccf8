"""Write and read HdrHistogram's log files (.hlog), and write its percentile tables (.hgrm).

A log holds one line for each interval and kind of operation: the kind as a tag, when the interval
began, how long it was, its largest value in ms, and all of its latencies, in ns. HdrHistogram's own
tools and libraries read them (`HistogramLogProcessor -tag read`, HistogramLogAnalyzer).

    #[Histogram log format version 1.3]
    #[StartTime: 1750000000.000 (seconds since epoch), 2025-06-15T15:06:40Z]
    "StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"
    Tag=read,0.000,1.000,0.213,HISTFAAAA...

A log that a kill cut off ends with a torn line: `read_log` leaves that out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

import numpy as np

from ferrisdb.bench import hdr_codec
from ferrisdb.bench.hdr_codec import HdrFormatError
from ferrisdb.bench.histogram import HALF_BITS, NS_MAX, Histogram, highest_ns

NS_PER_MS: Final = 1_000_000.0
TICKS_PER_HALF: Final = 5
LEGEND: Final = '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"'


@dataclass(frozen=True, slots=True)
class Interval:
    """One line of a log."""

    #: The kind of operation; "" where the line has no tag.
    tag: str
    #: Since the log's start.
    start_s: float
    seconds: float
    histogram: Histogram


class HistogramLog:
    """A log that is being written.

    Owner:  one thread. Each line is with the operating system when `append` returns.
    """

    def __init__(self, path: Path, started_s: float) -> None:
        """Begin a log, in the place of one that is there.

        Units:   started_s, seconds since 1970.
        """
        self._file = path.open("w", encoding="ascii")
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started_s))
        self._write("#[Histogram log format version 1.3]")
        self._write(f"#[StartTime: {started_s:.3f} (seconds since epoch), {when}]")
        self._write(LEGEND)

    def append(self, interval: Interval) -> None:
        """Write one interval; its tag may have no comma and no blank."""
        tag = interval.tag
        if any(character in tag for character in ", \r\n"):
            raise ValueError(f"a tag with a comma or a blank: {tag!r}")
        named = f"Tag={tag}," if tag else ""
        most_ms = interval.histogram.max_ns() / NS_PER_MS
        self._write(
            f"{named}{interval.start_s:.3f},{interval.seconds:.3f},{most_ms:.3f},"
            f"{hdr_codec.encode(interval.histogram)}"
        )

    def close(self) -> None:
        """End it."""
        self._file.close()

    def __enter__(self) -> HistogramLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()


def write_log(
    path: Path, histograms: dict[str, Histogram], *, started_s: float, seconds: float
) -> None:
    """Write a log of one interval, with a line for each kind of operation.

    Units:   started_s, seconds since 1970.
    """
    with HistogramLog(path, started_s) as log:
        for tag, histogram in histograms.items():
            log.append(Interval(tag, 0.0, seconds, histogram))


def read_log(path: Path) -> Iterator[Interval]:
    """Yield the intervals of a log that was written here.

    Raises:  HdrFormatError, with the file's name and the line; OSError.
    """
    with path.open(encoding="ascii", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return  # torn
            if line[0] in '#"\n':
                continue
            try:
                yield _interval_of(line.rstrip("\n"))
            except ValueError as error:
                raise HdrFormatError(f"{path}, line {number}: {error}") from None


def _interval_of(line: str) -> Interval:
    tag = ""
    if line.startswith("Tag="):
        tag, _, line = line.removeprefix("Tag=").partition(",")
    fields = line.split(",")
    if len(fields) != 4:
        raise HdrFormatError(f"{len(fields)} fields, where 4 were expected")
    return Interval(tag, float(fields[0]), float(fields[1]), hdr_codec.decode(fields[3]))


def merged(path: Path) -> dict[str, Histogram]:
    """Return all latencies of a log, by kind of operation.

    Raises:  HdrFormatError, with the file's name and the line; OSError.
    """
    found: dict[str, Histogram] = {}
    for interval in read_log(path):
        found.setdefault(interval.tag, Histogram()).merge(interval.histogram)
    return found


def write_percentiles(path: Path, histogram: Histogram) -> None:
    """Write a percentile table (.hgrm) in µs, as HdrHistogram's plotter reads it."""
    with path.open("w", encoding="ascii") as file:
        file.write(
            f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}\n"
        )
        file.write("\n")
        for us, part, count in percentile_rows(histogram):
            line = f"{us:12.3f} {part / 100:2.12f} {count:10d}"
            file.write(line + (f" {100 / (100 - part):14.2f}\n" if part < 100 else "\n"))
        mean, deviation = histogram.mean_ns() / 1000, histogram.deviation_ns() / 1000
        file.write(f"#[Mean    = {mean:12.3f}, StdDeviation   = {deviation:12.3f}]\n")
        file.write(
            f"#[Max     = {histogram.max_ns() / 1000:12.3f}, Total count    = "
            f"{histogram.total:12d}]\n"
        )
        octaves = NS_MAX.bit_length() - HALF_BITS
        file.write(f"#[Buckets = {octaves:12d}, SubBuckets     = {2 << HALF_BITS:12d}]\n")


def percentile_rows(histogram: Histogram) -> Iterator[tuple[float, float, int]]:
    """Yield µs, percentile and how many do not exceed it: five rows for each half of what remains.

    Source:  HdrHistogram's percentile iterator. From 50 % on the steps are a tenth of the rest
             each, so that a curve over "nines" is equally dense everywhere.
    """
    indexes, counts = histogram.buckets()
    if not indexes.size:
        return
    seen = np.cumsum(counts)
    total = int(seen[-1])
    part = 0.0
    for index, count in zip(indexes.tolist(), seen.tolist(), strict=True):
        us = highest_ns(index) / 1000
        while part <= 100 * count / total:
            yield us, part, count
            if count == total:
                # What is left has no more steps to show.
                yield us, 100.0, total
                return
            halves = int(np.log2(100 / (100 - part))) + 1
            part += 100 / (TICKS_PER_HALF * (1 << halves))
