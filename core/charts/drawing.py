"""The strokes of a diagram as SVG: boxes, the stream, branches. Only currentColor and translucent colours."""

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from core.charts.style import GROUP_COLOURS, short_bytes, si

FONT, LINE, PAD, GAP, SIDE = 12, 15, 6, 18, 6
"""Height of the letters and of a line, inner margin of a box, distance between boxes below and beside each other."""

Point = tuple[float, float]


class Span(NamedTuple):
    """An upper or lower edge, where lines arrive or leave."""

    x0: float
    x1: float
    y: float
    arrow: bool = True

    @property
    def x(self) -> float:
        """Its middle."""
        return (self.x0 + self.x1) / 2


def text_width(text: str, bold: bool = False) -> float:
    """What a text takes in a usual sans-serif, about: SVG knows no text flow."""
    widths = (0.29 if c in " .,·/()ijltfrI-" else 0.84 if c in "mwMW" else 0.7 if c.isupper() else 0.565 for c in text)
    return FONT * sum(widths) * (1.07 if bold else 1)


def numbers(row: dict[str, Any]) -> list[str]:
    """A row's costs in short, without those that are 0."""
    costs = (f"{si(row['parameters'])} params", si(row["flop"], "FLOP"), short_bytes(row["bytes"]))
    return [text for text, cost in zip(costs, ("parameters", "flop", "bytes"), strict=True) if row[cost]]


def box_lines(row: dict[str, Any], width: float) -> list[tuple[str, str]]:
    """What is written in a box of this width: left and right of each line, the name first."""
    inner = width - 2 * PAD
    name, shape, full = row["name"], row["shape"], f"{row['symbols']} = {row['shape']}"
    beside = inner - text_width(name, bold=True) - 12
    right = next((text for text in (full, shape) if text_width(text) <= beside), "")
    lines = [(name, right)]
    if not right:
        lines.append((shape if text_width(shape) <= inner else shape.replace(" × ", "×"), ""))
    packed: list[str] = []
    for number in numbers(row):
        if packed and text_width(f"{packed[-1]} · {number}") <= inner:
            packed[-1] += f" · {number}"
        else:
            packed.append(number)
    return [*lines, *((line, "") for line in packed)]


def box_height(row: dict[str, Any], width: float) -> float:
    """How high a box of this width is."""
    return LINE * len(box_lines(row, width)) + PAD + 3


class Canvas:
    """SVG in the making."""

    def __init__(self, width: float) -> None:
        self.width, self.height = width, 0.0
        self.ground: list[str] = []
        self.parts: list[str] = []
        self._stream: Point | None = None
        self.places: dict[str, tuple[float, float, float, float]] = {}

    def svg(self, name: str, title: str) -> str:
        """All that was drawn; `name` becomes its class."""
        # A picture with links in it: as one image (role "img") the links would be hidden from who hears it. Each box
        # is an image of its own.
        drawn = "".join(self.ground + self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="{name}" role="group" viewBox="0 0 {self.width:g} '
            f'{self.height:g}" font-size="{FONT}"><title>{escape(title)}</title>{drawn}</svg>'
        )

    def box(self, row: dict[str, Any], x: float, y: float, width: float, height: float, dashed: bool) -> None:
        """An operation, a link if it leads somewhere."""
        self.places[row["name"]] = (x, y, width, height)
        about = (
            f"{row['name']}: {row['symbols']} = {row['shape']}; {row['parameters']:,} parameters, "
            f"{row['flop']:,} FLOP, {row['bytes']:,} bytes; {row['times']:,} in the model"
        )
        colour, dash = GROUP_COLOURS[row["group"]], ' stroke-dasharray="4 3"' if dashed else ""
        lines = box_lines(row, width)
        top = y + (height - LINE * len(lines)) / 2 + 11.5
        drawn = [
            f'<g role="img"><title>{escape(about)}</title>'
            f'<rect class="box" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" fill="{colour}" '
            f'fill-opacity="{row["fill"]:.3f}" stroke="{colour}"{dash}/>'
        ]
        for place, (left, right) in enumerate(lines):
            line_y = top + LINE * place
            drawn.append(_text(x + PAD, line_y, left, bold=place == 0, faint=place > 0))
            if right:
                drawn.append(_text(x + width - PAD, line_y, right, anchor="end", faint=True))
        drawn.append("</g>")
        link = row.get("href")
        self.parts.append(f'<a href="{escape(link)}">{"".join(drawn)}</a>' if link else "".join(drawn))

    def pill(self, x: float, y: float, width: float, text: str) -> list[Span]:
        """What goes in; its lower edge."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="24" rx="12" fill="none" stroke="currentColor" '
            f'stroke-opacity="0.45"/>{_text(x + width / 2, y + 16, text, anchor="middle")}'
        )
        return [Span(x, x + width, y + 24)]

    def panel(self, x: float, y: float, width: float, height: float, label: str, count: int) -> None:
        """The ground under what is repeated, as a stack of sheets."""
        right, foot = x + width - 8, y + height
        self.ground.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width - 8:g}" height="{height:g}" rx="9" fill="currentColor" '
            f'fill-opacity="0.04" stroke="currentColor" stroke-opacity="0.3"/>'
        )
        for up in range(4, 4 * min(count, 3), 4):
            edge = [(x + up, y - up + 4), (x + up, y - up), (right + up, y - up), (right + up, foot - up)]
            self.ground.append(
                f'<path d="{_path([*edge, (right + up - 4, foot - up)], 9)}" fill="none" stroke="currentColor" '
                f'stroke-opacity="0.3"/>'
            )
        self.ground.append(_text(x + width - 18, y + 17, label, anchor="end", bold=True))

    def frame(self, x: float, y: float, width: float, height: float, label: str) -> None:
        """A dashed border around an alternative."""
        self.ground.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" fill="none" stroke="currentColor" '
            f'stroke-opacity="0.4" stroke-dasharray="3 3"/>'
            f"{_text(x + width - PAD, y + 15, label, anchor='end', faint=True)}"
        )

    def stream_to(self, x: float, y: float) -> None:
        """The residual stream from where it was left to here."""
        if self._stream:
            self.ground.append(
                f'<path d="{_path([self._stream, (x, y)], 0)}" fill="none" stroke="currentColor" '
                'stroke-opacity="0.3" stroke-width="5"/>'
            )

    def stream_from(self, x: float, y: float) -> None:
        """The stream goes on from here."""
        self._stream = (x, y)

    def line(self, points: Sequence[Point], arrow: bool = True, dashed: bool = False) -> None:
        """A thin line with rounded corners, with an arrowhead at its end."""
        (x0, y0), (x, y) = points[-2:]
        shaft, head = list(points), ""
        if arrow:
            length = max(abs(x - x0), abs(y - y0)) or 1
            along, across = ((x - x0) / length, (y - y0) / length), ((y - y0) / length, (x - x0) / length)
            base = (x - 6 * along[0], y - 6 * along[1])
            shaft[-1] = base
            wings = [(base[0] + side * across[0], base[1] + side * across[1]) for side in (3.5, -3.5)]
            corners = " ".join(f"{cx:g},{cy:g}" for cx, cy in ((x, y), *wings))
            head = f'<polygon points="{corners}" fill="currentColor" fill-opacity="0.65"/>'
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self.ground.append(
            f'<path d="{_path(shaft, 6)}" fill="none" stroke="currentColor" stroke-opacity="0.65" '
            f'stroke-width="1.4"{dash}/>{head}'
        )

    def note(self, x: float, y: float, text: str) -> None:
        """Words beside a line."""
        self.parts.append(_text(x, y, text, faint=True))

    def dot(self, x: float, y: float) -> None:
        """Where a branch leaves the stream."""
        self.ground.append(f'<circle cx="{x:g}" cy="{y:g}" r="4.5" fill="currentColor" fill-opacity="0.75"/>')

    def fan(self, source: Point, entries: Sequence[Span], turn: float) -> None:
        """From one point of the stream to all edges, turning aside at height `turn`."""
        self.dot(*source)
        places = [source[0] if e.x0 + PAD <= source[0] <= e.x1 - PAD else e.x for e in entries]
        farthest = max(places, key=lambda x: abs(x - source[0]))
        for x, entry in zip(places, entries, strict=True):
            # Translucent lines must not lie upon each other.
            way = [source, (source[0], turn), (x, turn)] if x == farthest else [(x, turn - 6 * (x == source[0]))]
            self.line([*way, (x, entry.y)], entry.arrow)

    def gather(self, exits: Sequence[Span], turn: float, route: Sequence[Point]) -> None:
        """From all edges down to height `turn` and on by one common route."""
        farthest = max((span.x for span in exits), key=lambda x: abs(x - route[0][0]), default=0.0)
        for span in exits:
            common = span.x == farthest
            self.line([(span.x, span.y), (span.x, turn), *(route if common else ())], arrow=common)

    def plus(self, x: float, y: float) -> None:
        """The sign of a sum on the stream, where a branch joins it."""
        self.parts.append(
            f'<g fill="none" stroke="currentColor" stroke-width="1.4"><circle cx="{x:g}" cy="{y:g}" r="7.5"/>'
            f'<path d="M{x - 4:g} {y:g}h8M{x:g} {y - 4:g}v8"/></g>'
        )

    def connect(self, exits: Sequence[Span], entries: Sequence[Span]) -> None:
        """Arrows from every edge to each that stands below it."""
        for upper in exits:
            for lower in entries:
                x0, x1 = max(upper.x0, lower.x0), min(upper.x1, lower.x1)
                if x0 <= x1:
                    self.line([((x0 + x1) / 2, upper.y), ((x0 + x1) / 2, lower.y)], lower.arrow)


def _text(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False, faint: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    opacity = ' fill-opacity="0.8"' if faint else ""
    return (
        f'<text x="{x:g}" y="{y:g}" fill="currentColor"{opacity}{weight} text-anchor="{anchor}">{escape(text)}</text>'
    )


def _path(points: Sequence[Point], radius: float) -> str:
    """A line through points that turns right angles with rounded corners."""
    kept = [point for place, point in enumerate(points) if place == 0 or point != points[place - 1]]
    steps = [f"M{kept[0][0]:g} {kept[0][1]:g}"]
    for before, (x, y), after in zip(kept, kept[1:], kept[2:], strict=False):
        ends = []
        for ox, oy in (before, after):
            distance = max(abs(ox - x), abs(oy - y))
            part = min(radius, distance / 2) / distance
            ends.append((x + (ox - x) * part, y + (oy - y) * part))
        (ax, ay), (bx, by) = ends
        steps.append(f"L{ax:g} {ay:g}Q{x:g} {y:g} {bx:g} {by:g}")
    return "".join([*steps, f"L{kept[-1][0]:g} {kept[-1][1]:g}"])
