"""Others read our histograms: the `hdrhistogram` package decodes what we write, and we its text."""

from __future__ import annotations

import base64
import random
import re
import zlib
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from ferrisdb.bench import hdr_codec
from ferrisdb.bench.hdr_codec import HdrFormatError
from ferrisdb.bench.histogram import DIGITS, NS_MAX, PERCENTILES, Histogram
from ferrisdb.bench.histogram_log import (
    HistogramLog,
    Interval,
    merged,
    percentile_rows,
    read_log,
    write_log,
    write_percentiles,
)

STARTED_S = 1_750_000_000.0


def _both(seed: int, count: int) -> tuple[Histogram, HdrHistogram]:
    rng = random.Random(seed)
    latencies = [int(2 ** rng.gauss(14, 3)) for _ in range(count)]
    ours, theirs = Histogram(), HdrHistogram(1, NS_MAX, DIGITS)
    ours.add_many(latencies)
    for ns in latencies:
        theirs.record_value(ns)
    return ours, theirs


def _assert_equal(ours: Histogram, theirs: HdrHistogram) -> None:
    assert theirs.get_total_count() == ours.total
    for part in (*PERCENTILES, 100.0):
        assert theirs.get_value_at_percentile(part) == pytest.approx(
            ours.percentile(part), rel=0.002
        )
    assert theirs.get_mean_value() == pytest.approx(ours.mean_ns(), rel=0.001)


@pytest.mark.parametrize("count", [0, 1, 2, 5000])
def test_others_decode_what_we_encode(count: int) -> None:
    ours, _ = _both(count, count)
    decoded = HdrHistogram.decode(hdr_codec.encode(ours))
    assert decoded.highest_trackable_value == NS_MAX
    indexes, counts = ours.buckets()
    for index, number in zip(indexes.tolist(), counts.tolist(), strict=True):
        assert decoded.get_count_at_index(index) == number
    _assert_equal(ours, decoded)


@pytest.mark.parametrize("count", [0, 1, 2, 5000])
def test_we_decode_what_others_encode(count: int) -> None:
    ours, theirs = _both(count + 1, count)
    decoded = hdr_codec.decode(theirs.encode().decode())
    assert (decoded.counts == ours.counts).all()


def test_counts_of_many_digits_come_back() -> None:
    made = Histogram.of_buckets([0, 1, 3, 9000], [1, 63, 64, (1 << 55) - 1])
    assert (hdr_codec.decode(hdr_codec.encode(made)).counts == made.counts).all()


def _repacked(payload: bytes) -> str:
    packed = zlib.compress(payload)
    raw = hdr_codec.OUTER.pack(hdr_codec.COMPRESSED_COOKIE, len(packed)) + packed
    return base64.b64encode(raw).decode()


def _payload(counts: bytes, *, length: int | None = None, digits: int = DIGITS) -> bytes:
    size = len(counts) if length is None else length
    return hdr_codec.INNER.pack(hdr_codec.COOKIE, size, 0, digits, 1, NS_MAX, 1.0) + counts


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("&&&&", "no Base64"),
        ("HIST", "cut off in its header"),
        (base64.b64encode(b"\0" * 20).decode(), "cookie 0x0"),
        (_repacked(_payload(b"\x02"))[:-4], "bytes, where"),
        (_repacked(_payload(b"\x02", length=9)), "1 bytes of counts, not 9"),
        (_repacked(_payload(b"\x02", digits=2)), "2 digits"),
        (_repacked(_payload(b"\x82")), "cut off within"),
        (_repacked(_payload(b"\x82" * 9)), "more than 56 bits"),
        (_repacked(_payload(b"\xff\xff\xff\x7f" + b"\x02")), "buckets"),
        (_repacked(_payload(bytes(10_000_000))), "longer than it may be"),
        (_repacked(b"short"), "cut off"),
    ],
)
def test_damaged_text_is_refused(text: str, reason: str) -> None:
    with pytest.raises(HdrFormatError, match=reason):
        hdr_codec.decode(text)


def test_others_read_our_log(tmp_path: Path) -> None:
    path = tmp_path / "cell.hlog"
    read, update = _both(1, 3000)[0], _both(2, 1000)[0]
    write_log(path, {"read": read, "update": update}, started_s=STARTED_S, seconds=2.5)
    reader = HistogramLogReader(str(path), HdrHistogram(1, NS_MAX, DIGITS))
    found = {}
    while (histogram := reader.get_next_interval_histogram()) is not None:
        found[histogram.get_tag()] = histogram
        assert histogram.get_end_time_stamp() - histogram.get_start_time_stamp() == 2500
    reader.input_file.close()
    assert reader.get_start_time_sec() == STARTED_S
    assert list(found) == ["read", "update"]
    _assert_equal(read, found["read"])
    _assert_equal(update, found["update"])


def test_a_log_comes_back_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "timeline.hlog"
    parts = [_both(seed, 500)[0] for seed in range(4)]
    with HistogramLog(path, STARTED_S) as log:
        for second, part in enumerate(parts):
            log.append(Interval("get" if second % 2 else "", float(second), 1.0, part))
    found = list(read_log(path))
    assert [(each.tag, each.start_s, each.seconds) for each in found] == [
        ("", 0.0, 1.0), ("get", 1.0, 1.0), ("", 2.0, 1.0), ("get", 3.0, 1.0),
    ]  # fmt: skip
    assert merged(path)["get"].total == 1000
    path.write_bytes(path.read_bytes()[:-7])
    assert [each.start_s for each in read_log(path)] == [0.0, 1.0, 2.0]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.hlog"
    path.write_text("#[a comment]\n0.0,1.0,0.2\n")
    with pytest.raises(HdrFormatError, match=r"bad\.hlog, line 2: 3 fields"):
        list(read_log(path))
    with HistogramLog(path, STARTED_S) as log, pytest.raises(ValueError, match="comma"):
        log.append(Interval("a,b", 0.0, 1.0, Histogram()))


def test_percentile_table_is_like_the_usual_one(tmp_path: Path) -> None:
    ours, theirs = _both(5, 3000)
    write_percentiles(tmp_path / "ours.hgrm", ours)
    with (tmp_path / "theirs.hgrm").open("wb") as file:
        theirs.output_percentile_distribution(file, 1000)
    lines, others = (
        (tmp_path / f"{name}.hgrm").read_text().splitlines() for name in ("ours", "theirs")
    )
    assert lines[0].split() == others[0].split() and lines[1] == ""
    row = re.compile(r" *[\d.]+ [01]\.\d{12} +\d+( +[\d.]+)?")
    tables = [[line for line in part if row.fullmatch(line)] for part in (lines, others)]
    assert tables[0][-1].split()[:3] == tables[1][-1].split()[:3]
    assert len(tables[0]) + 5 == len(lines)
    for line in tables[0][1:-1]:
        us, part, count, odds = (float(field) for field in line.split())
        assert us * 1000 == pytest.approx(ours.percentile(part * 100), abs=1)
        assert count == theirs.get_count_at_value(0) + sum(
            number
            for index, number in zip(*(each.tolist() for each in ours.buckets()), strict=True)
            if theirs.get_value_from_index(index) <= us * 1000
        )
        assert odds == pytest.approx(1 / (1 - part), rel=0.01)
    tails = [[float(n) for n in re.findall(r"= *([\d.]+)", line)] for line in lines[-3:-1]]
    assert tails[0] == pytest.approx([theirs.get_mean_value() / 1000, theirs.get_stddev() / 1000],
                                     rel=0.001)  # fmt: skip
    assert tails[1] == [theirs.get_max_value() / 1000, 3000]


def test_percentile_rows_of_nothing_are_none() -> None:
    assert list(percentile_rows(Histogram())) == []
