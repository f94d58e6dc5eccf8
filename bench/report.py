"""Turn a run's folder into what people look at: tables, plots, one HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ferrisdb.bench import drawing, plots, results
from ferrisdb.bench.drawing import NoMatplotlibError, Picture
from ferrisdb.bench.histogram_log import write_percentiles
from ferrisdb.bench.page import Pictures, page
from ferrisdb.bench.results import Results
from ferrisdb.bench.tables import run_lines
from ferrisdb.bench.timeline_plot import LoadTimeline, read_timeline, timeline

PAGE_NAME: Final = "report.html"
PLOTS_NAME: Final = "plots"
PERCENTILES_NAME: Final = "percentiles"


def tables(path: Path) -> Iterator[str]:
    """Yield the lines of a run's tables.

    Shape:   path, its folder or its results.jsonl.
    Raises:  ResultsError.
    """
    return run_lines(results.read(path))


def write(folder: Path) -> Path:
    """Write `report.html`, `plots/` and `percentiles/` of a folder's results; returns the page.

    Without matplotlib the page has no plots, and says so.

    Raises:  ResultsError; OSError.
    """
    run = results.read(folder)
    load = read_timeline(folder)
    bars: list[Picture] = []
    try:
        with drawing.style():
            pictures = _draw(run, load)
            # Beside the page; within it the tables have bars of their own.
            bars = [plots.throughput(run, group) for group in plots.main_groups(run)]
    except NoMatplotlibError as error:
        pictures = Pictures(note=str(error))
    _save(folder / PLOTS_NAME, [*pictures.all(), *bars])
    _write_percentiles(folder / PERCENTILES_NAME, run)
    target = folder / PAGE_NAME
    target.write_text(page(run, pictures, load.verdicts if load else ()), encoding="utf-8")
    return target


def write_overview(path: Path, target: Path, workloads: Sequence[str] = ()) -> None:
    """Write the throughput of some workloads, or of all, as the one image `target`.

    Shape:   path, a run's folder or its results.jsonl; target, its ending is svg or png.
    Raises:  ResultsError, also for a workload that the run hasn't; NoMatplotlibError; OSError.
    """
    run = results.read(path)
    for name in workloads:
        if name not in run.workloads():
            there = ", ".join(run.workloads()) or "none"
            raise results.ResultsError(f"{run.path} has no workload {name!r}; there are: {there}")
    with drawing.style():
        picture = plots.overview(run, workloads)
    if target.suffix == ".png":
        target.write_bytes(picture.png)
    else:
        target.write_text(picture.svg, encoding="utf-8")


def _draw(run: Results, load: LoadTimeline | None) -> Pictures:
    over_time = timeline(load, run.machine) if load else None
    curves = {at: plots.latency(run, group) for at, group in enumerate(run.groups)}
    return Pictures(
        overview=plots.overview(run) if len(run.groups) > 1 else None,
        latency={at: picture for at, picture in curves.items() if picture is not None},
        scaling=list(plots.scaling(run)),
        timeline=[over_time] if over_time else [],
    )


def _save(folder: Path, pictures: Sequence[Picture]) -> None:
    folder.mkdir(exist_ok=True)
    for picture in pictures:
        (folder / f"{picture.name}.png").write_bytes(picture.png)
        (folder / f"{picture.name}.svg").write_text(picture.svg, encoding="utf-8")


def _write_percentiles(folder: Path, run: Results) -> None:
    """Write a table of percentiles for each group, engine and kind of operation."""
    for group in run.groups:
        for engine, measured in group.measured.items():
            for kind, histogram in plots.histograms(run, measured).items():
                folder.mkdir(exist_ok=True)
                name = f"{plots.group_slug(group)}.{plots.slug(engine)}.{plots.slug(kind or 'all')}"
                write_percentiles(folder / f"{name}.hgrm", histogram)
