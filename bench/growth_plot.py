"""Draw what `growth.py` has measured: costs over the number of keys, and a reader's memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ferrisdb.bench import drawing
from ferrisdb.bench.drawing import MUTED, Picture
from ferrisdb.bench.machine_line import machine_line
from ferrisdb.bench.units import tick_duration, tick_rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The palette of Okabe and Ito, as in engine_looks.py; here a colour is an operation.
_LOOKS: Final = (
    ("#d55e00", "o"),
    ("#0072b2", "s"),
    ("#009e73", "^"),
    ("#cc79a7", "P"),
    ("#56b4e9", "v"),
    ("#e69f00", "D"),
    ("#8c5a3c", "X"),
)
_STAGES: Final = {"attached": "attached", "every table read": "and has read from every table"}
_ALLOWED_MB: Final = 40


def picture(record: dict[str, Any]) -> Picture:
    """Draw it; within `drawing.style`."""
    sizes = record["sizes"]
    figure = drawing.new_figure(9.6, 3.9)
    costs, memory = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_costs(costs, sizes)
    _draw_memory(memory, sizes)
    text = "The cost of each operation, and the memory of a reader, over the number of keys."
    return drawing.finish(figure, "growth", text, machine_line(record.get("machine", {})))


def write(record: dict[str, Any], name: str) -> None:
    """Draw NAME.svg and NAME.png.

    Raises:  drawing.NoMatplotlibError.
    """
    with drawing.style():
        drawn = picture(record)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(f"{name}.svg").write_text(drawn.svg, encoding="utf-8")
    Path(f"{name}.png").write_bytes(drawn.png)


def _draw_costs(axes: Axes, sizes: list[dict[str, Any]]) -> None:
    names = dict.fromkeys(name for one in sizes for name in one["costs_us"])
    for at, name in enumerate(names):
        colour, mark = _LOOKS[at % len(_LOOKS)]
        having = [one for one in sizes if name in one["costs_us"]]
        found = [one["costs_us"][name] for one in having]
        middle = [cost["median"] for cost in found]
        below = [cost["median"] - cost["least"] for cost in found]
        above = [cost["most"] - cost["median"] for cost in found]
        axes.errorbar(
            [one["keys"] for one in having], middle, yerr=(below, above),
            label=name, color=colour, marker=mark, markersize=4, linewidth=1.2, elinewidth=0.8,
        )  # fmt: skip
    _label_keys(axes, sizes)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _at: tick_duration(value))
    axes.grid(axis="y")
    axes.set_title("Cost of a call or row")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)


def _draw_memory(axes: Axes, sizes: list[dict[str, Any]]) -> None:
    for (stage, label), (colour, mark) in zip(_STAGES.items(), _LOOKS[1::-1], strict=True):
        owned = [one["reader"][stage]["own_bytes"] / 1e6 for one in sizes]
        axes.plot(
            [one["keys"] for one in sizes], owned,
            label=label, color=colour, marker=mark, markersize=4, linewidth=1.2,
        )  # fmt: skip
    axes.axhline(_ALLOWED_MB, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.annotate("asked: below", (0.02, _ALLOWED_MB), xycoords=("axes fraction", "data"),
                  xytext=(0, 3), textcoords="offset points", color=MUTED, fontsize=8)  # fmt: skip
    _label_keys(axes, sizes)
    most = max(axes.get_ylim()[1], _ALLOWED_MB)
    axes.set_ylim(0, most * 1.15)
    axes.set_ylabel("MB beyond the shared maps")
    axes.grid(axis="y")
    axes.set_title("Memory of a reader")
    axes.legend(loc="lower right", fontsize=8)


def _label_keys(axes: Axes, sizes: list[dict[str, Any]]) -> None:
    keys = [one["keys"] for one in sizes]
    axes.set_xscale("log")
    axes.set_xticks(keys, [tick_rate(count) for count in keys], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("keys")
