"""Boxes below and beside each other: how much room they need, and where each one stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from core.charts.drawing import GAP, LINE, PAD, SIDE, Canvas, Span, box_height, numbers, text_width

Edges = tuple[list[Span], list[Span]]
"""Upper edges at which lines arrive, lower edges from which they leave."""


class Node(Protocol):
    """A box or several."""

    @property
    def need(self) -> float:
        """The least width in which it can be read."""

    @property
    def lanes(self) -> int:
        """How many boxes stand side by side in it."""

    def height(self, width: float) -> float:
        """What it takes at this width."""

    def draw(self, canvas: Canvas, x: float, y: float, width: float) -> Edges:
        """Draw it, its upper left corner here."""


@dataclass
class Box:
    """One operation."""

    row: dict[str, Any]
    dashed: bool = False
    lanes: int = 1

    @property
    def need(self) -> float:
        """Its name, its shape without blanks, and each number in one line."""
        texts = [self.row["shape"].replace(" × ", "×"), *numbers(self.row)]
        return max(text_width(self.row["name"], bold=True), *map(text_width, texts)) + 2 * PAD

    def height(self, width: float) -> float:
        """As many lines as its text takes."""
        return box_height(self.row, width)

    def draw(self, canvas: Canvas, x: float, y: float, width: float) -> Edges:
        """The box; its edges are all of its width."""
        height = self.height(width)
        canvas.box(self.row, x, y, width, height, self.dashed)
        return [Span(x, x + width, y)], [Span(x, x + width, y + height)]


@dataclass
class Column:
    """What follows one another."""

    children: Sequence[Node]
    gap: float = GAP

    @property
    def need(self) -> float:
        """Of the widest."""
        return max(child.need for child in self.children)

    @property
    def lanes(self) -> int:
        """Of the widest."""
        return max(child.lanes for child in self.children)

    def height(self, width: float) -> float:
        """All, with a gap between."""
        return sum(child.height(width) for child in self.children) + self.gap * (len(self.children) - 1)

    def stretch(self, width: float, height: float) -> None:
        """Widen all gaps alike towards a height."""
        _widen(self, min(1.5 * GAP, (height - self.height(width)) / max(1, _gaps(self))))

    def draw(self, canvas: Canvas, x: float, y: float, width: float) -> Edges:
        """Each with arrows from the one above."""
        first, last = [], []
        for child in self.children:
            entries, exits = child.draw(canvas, x, y, width)
            canvas.connect(last, entries)
            first, last = first or entries, exits
            y += child.height(width) + self.gap
        return first, last


@dataclass
class Parallel:
    """What works on the same thing: side by side where there is room, else below each other with lines around."""

    children: Sequence[Node]

    @property
    def need(self) -> float:
        """Of the widest, with lines on both sides."""
        return max(child.need for child in self.children) + 4 * PAD

    @property
    def lanes(self) -> int:
        """Of all together."""
        return sum(child.lanes for child in self.children)

    def widths(self, width: float) -> list[float] | None:
        """Of the children beside each other, a lane each; None if they do not fit."""
        lane = (width - SIDE * (self.lanes - 1)) / self.lanes
        widths = [lane * child.lanes + SIDE * (child.lanes - 1) for child in self.children]
        needs = [child.need for child in self.children]
        if all(need <= own for need, own in zip(needs, widths, strict=True)):
            return widths
        spare = width - SIDE * (len(needs) - 1) - sum(needs)
        return [need + spare / len(needs) for need in needs] if spare >= 0 else None

    def height(self, width: float) -> float:
        """Of the highest, or of all."""
        widths = self.widths(width)
        if widths:
            return max(child.height(own) for child, own in zip(self.children, widths, strict=True))
        return sum(child.height(width - 4 * PAD) + SIDE for child in self.children) - SIDE

    def draw(self, canvas: Canvas, x: float, y: float, width: float) -> Edges:
        """All; where they stand below each other, the first is entered from above and the last left below."""
        widths = self.widths(width)
        if widths is None:
            return self._draw_stacked(canvas, x, y, width)
        entries, exits = [], []
        for child, own in zip(self.children, widths, strict=True):
            above, below = child.draw(canvas, x, y, own)
            entries += above
            exits += below
            x += own + SIDE
        return entries, exits

    def _draw_stacked(self, canvas: Canvas, x: float, y: float, width: float) -> Edges:
        top, bottom, inner = y, y + self.height(width), width - 4 * PAD
        edges = []
        for place, child in enumerate(self.children):
            edges.append(child.draw(canvas, x + 2 * PAD, y, inner))
            height = child.height(inner)
            if place > 0:
                enter = y + min(height / 2, 24)
                canvas.line([(x + 3, top), (x + 3, enter), (x + 2 * PAD, enter)])
            if place < len(self.children) - 1:
                leave, side = y + height - min(height / 2, 24), x + width - 3
                canvas.line([(x + width - 2 * PAD, leave), (side, leave), (side, bottom)], arrow=False)
            y += height + SIDE
        around = (Span(x + 3, x + 3, top, arrow=False), Span(x + width - 3, x + width - 3, bottom))
        return [*edges[0][0], around[0]], [*edges[-1][1], around[1]]


@dataclass
class Frame:
    """An alternative, with a border and a label."""

    label: str
    child: Node

    @property
    def need(self) -> float:
        """Of what is in it, or of the label."""
        return max(self.child.need, text_width(self.label)) + 2 * PAD

    @property
    def lanes(self) -> int:
        """Of what is in it."""
        return self.child.lanes

    def height(self, width: float) -> float:
        """Of what is in it, and the label's line."""
        return self.child.height(width - 2 * PAD) + LINE + 3 * PAD

    def draw(self, canvas: Canvas, x: float, y: float, width: float) -> Edges:
        """The border and what is in it; lines pass through the border."""
        canvas.frame(x, y, width, self.height(width), self.label)
        return self.child.draw(canvas, x + PAD, y + LINE + 2 * PAD, width - 2 * PAD)


def _inside(node: Node) -> Sequence[Node]:
    return [node.child] if isinstance(node, Frame) else getattr(node, "children", [])


def _gaps(node: Node) -> int:
    """Gaps on the longest way down."""
    inside = [_gaps(child) for child in _inside(node)]
    return sum(inside) + len(inside) - 1 if isinstance(node, Column) else max(inside, default=0)


def _widen(node: Node, gap: float) -> None:
    if isinstance(node, Column):
        node.gap += gap
    for child in _inside(node):
        _widen(child, gap)
