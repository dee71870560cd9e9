"""What all figures share: colours, legends, short numbers. Standard library and altair."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import altair as alt
from altair.utils import schemapi

Rows = Sequence[dict[str, Any]]

PALETTE = ["#2F8FD8", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#8C7AE6", "#999999"]
"""After Okabe and Ito, distinct for colour-blind readers; the blues lightened to be seen on dark ground too."""

GROUP_COLOURS = {
    "embedding": "#8C7AE6",
    "attention": "#2F8FD8",
    "feed-forward": "#E69F00",
    "output": "#009E73",
    "update": "#999999",
}
"""The parts of a model look the same in every figure."""

GREY = "#888888"
"""Of rules and bands: seen on light and on dark ground."""


SEEN_THROUGH = {"width": "container", "background": "transparent"}
"""Of a chart as wide as its place, on the ground of the page: a dark page would give it a grey one of its own."""


def unchecked(build: Callable[..., alt.LayerChart]) -> Callable[..., alt.LayerChart]:
    """A chart builder without altair's check of every part against its schema, which takes half of the time.

    `chart.to_dict()`, which the tests call on every figure, checks the whole.
    """

    @functools.wraps(build)
    def built(*arguments: Any, **options: Any) -> alt.LayerChart:
        with schemapi.debug_mode(False):
            return build(*arguments, **options)

    return built


_SI = (
    (10**24, "Y"),
    (10**21, "Z"),
    (10**18, "E"),
    (10**15, "P"),
    (10**12, "T"),
    (10**9, "G"),
    (10**6, "M"),
    (1000, "k"),
)
_BINARY = ((2**50, "PiB"), (2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))


def si(value: float, unit: str = "") -> str:
    """A number in three digits with an SI prefix.

    >>> si(38_597_376), si(79_047_426_048, "FLOP"), si(768, "FLOP")
    ('38.6 M', '79 GFLOP', '768 FLOP')
    """
    # A number that rounds to 1000 of one prefix is 1 of the next.
    size, prefix = next(((size, prefix) for size, prefix in _SI if value >= 0.9995 * size), (1, ""))
    return f"{value / size:.3g} {prefix}{unit}".strip()


def byte_unit(largest: float) -> tuple[int, str]:
    """The binary unit in which this many bytes are a number from 1 to 1024, and its name."""
    return next(((size, name) for size, name in _BINARY if largest >= 0.9995 * size), (1, "B"))


def short_bytes(value: float) -> str:
    """Bytes in three digits with a binary prefix.

    >>> short_bytes(12_582_912), short_bytes(1023 * 2**20), short_bytes(80 * 2**30)
    ('12 MiB', '1023 MiB', '80 GiB')
    """
    size, name = byte_unit(value)
    number = value / size
    return f"{number:.0f} {name}" if number >= 999.5 else f"{number:.3g} {name}"


def exact(value: float) -> str:
    """A number for a tooltip. As text: above 2^53 a browser's numbers lose their last digits.

    >>> exact(2**60 + 1)
    '1,152,921,504,606,846,977'
    """
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def colours(names: Sequence[str], fixed: dict[str, str] = GROUP_COLOURS) -> alt.Scale:
    """A colour for each name: its own where it has one, else the next of the palette."""
    free = [colour for colour in PALETTE if colour not in {fixed.get(name) for name in names}]
    unnamed = [name for name in names if name not in fixed]
    chosen = fixed | {name: free[place % len(free)] for place, name in enumerate(unnamed)}
    return alt.Scale(domain=list(names), range=[chosen[name] for name in names])


def legend(**options: Any) -> alt.Legend:
    """A legend above the plot: beside it, it would take a phone's whole width."""
    return alt.Legend(**{"orient": "top", "columns": 2, "labelLimit": 170, "title": None, "symbolLimit": 8} | options)


def axis(**options: Any) -> alt.Axis:
    """An axis with few ticks and a faint grid."""
    return alt.Axis(**{"format": "~s", "tickCount": 5, "gridOpacity": 0.35, "labelOverlap": True} | options)


def text(chart: alt.Chart, **options: Any) -> alt.Chart:
    """Text in the colour of the axes' labels, which the page's theme decides."""
    # Vega-Lite fills text black unless it counts as not filled; then Vega's style of labels says what its fill is.
    themed = {"style": "guide-label", "filled": False, "stroke": "transparent"}
    return chart.mark_text(**themed | {"align": "left", "baseline": "middle", "fontSize": 11} | options)
