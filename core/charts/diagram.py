"""The forward pass as a picture: HTML with one SVG for wide pages and one for narrow ones, laid out from the rows."""

from html import escape
from itertools import groupby
from typing import Any

from core.charts.drawing import Canvas, Span
from core.charts.layout import Box, Column, Frame, Node, Parallel
from core.charts.style import GROUP_COLOURS, Rows

LEAST_LANES = {"attention": 3, "feed-forward": 2}
"""How many boxes side by side each branch has room for on a wide page, whatever it holds."""

BRANCHES = tuple(LEAST_LANES)

LANES = {
    **{"q_proj": "query", "q_down_proj": "query", "query latent norm": "query", "q_up_proj": "query"},
    **{"k_proj": "key", "kv_down_proj": "key", "key-value latent norm": "key", "kv_up_proj": "key"},
    **{"query norm": "query", "key norm": "key", "v_proj": "value"},
    **{"gate_proj": "gate", "up_proj": "up", "experts gate_proj": "gate", "experts up_proj": "up"},
}
"""Operations that work side by side, by the lane they stand in; all others follow one another."""

MIXING = ("attention", "attention weighted sum")
"""Where the values, having waited, meet the scores."""

STYLE = """
.model-diagram { container: model-diagram / inline-size; width: 100%; margin: 0; overflow-x: auto; }
.model-diagram svg { width: 100%; height: auto; margin: 0 auto; font-family: inherit; }
.model-diagram .wide { display: none; max-width: 1240px; }
.model-diagram .narrow { display: block; max-width: 480px; min-width: 320px; }
.model-diagram a, .model-diagram a:hover { color: inherit; text-decoration: none; }
.model-diagram a:hover .box, .model-diagram a:focus-visible .box { stroke-width: 2.5; }
.model-diagram a:focus { outline: none; }
.model-diagram figcaption { font-size: 0.8rem; opacity: 0.8; text-align: left; margin: 0.75rem 0 0; }
.model-diagram figcaption span { white-space: nowrap; margin-right: 0.5em; }
.model-diagram figcaption i { display: inline-block; width: 0.8em; height: 0.8em; border-radius: 2px; }
@container model-diagram (min-width: 900px) {
  .model-diagram .wide { display: block; }
  .model-diagram .narrow { display: none; }
}
"""


def diagram(rows: Rows, *, title: str, bytes_are: str = "the bytes that it moves") -> str:
    """Draw a decoder-only Transformer: the residual stream, and the branches that leave and join it.

    Each box is an operation with its result's shape, and for one occurrence its parameters, FLOP and bytes; the fuller
    its colour, the more of the model's FLOP it has. Which operations there are, and in which order, the rows say.

    Args:
        rows: In the order of the forward pass: `name`, `group` (others than embedding, attention, feed-forward and
            output are left out), `times` (in the whole model), `symbols` ("B, T, d"), `shape` ("2 × 1024 × 768"),
            `parameters`, `flop`, `bytes` (of one occurrence), `href` (where the box leads; may be missing or empty).
        title: What the picture is called for those who do not see it.
        bytes_are: For the caption, which bytes are given.

    Returns:
        HTML. It takes the colour and font of the text around it, and reflows with the width it is given.

    Raises:
        ValueError: If no row is left.
    """
    kept = [row for row in rows if row["times"] and row["group"] in GROUP_COLOURS and row["group"] != "update"]
    if not kept:
        raise ValueError(f"{len(rows)} rows, none of which is of the embedding, attention, feed-forward or output")
    most = max(row["times"] * row["flop"] for row in kept) or 1
    parts: dict[str, list[dict[str, Any]]] = {name: [] for name in GROUP_COLOURS}
    for row in kept:
        parts[row["group"]].append({**row, "fill": 0.1 + 0.34 * (row["times"] * row["flop"] / most) ** 0.5})
    key = " ".join(
        f'<span><i style="background:{colour}"></i> {name}</span>'
        for name, colour in GROUP_COLOURS.items()
        if parts[name]
    )
    caption = (
        "Each box: an operation, the shape of its result, and for one occurrence the parameters that it holds, the "
        f"FLOP of its matrix products and {escape(bytes_are)}; what is 0 is left out. "
        "Fuller colour: more of the model's FLOP."
    )
    return (
        f'<figure class="model-diagram"><style>{STYLE}</style>{_wide(parts).svg("wide", title)}'
        f"{_narrow(parts).svg('narrow', title)}<figcaption>{caption} {key}</figcaption></figure>"
    )


def _narrow(parts: dict[str, Rows]) -> Canvas:
    """One column; the stream runs down on the left, the branches hang to its right."""
    width, stream_x, x, branch_x = 360.0, 20.0, 7.0, 40.0
    full, branch_width = width - 2 * x - 8, width - branch_x - 23
    canvas, layers = Canvas(width), _num_layers(parts)
    before, beside, behind = _ends(parts)
    y = _chain(canvas, x, 44, full, before, canvas.pill(x, 2, full, _tokens(parts)))
    canvas.stream_from(stream_x, y)
    for box in beside:
        box.draw(canvas, branch_x, y + 14, branch_width)
        y += 14 + box.height(branch_width)
    panel = y + 24
    y = panel + 26
    for name in BRANCHES:
        tree, joined = _branch(parts[name], layers)
        exits: list[Span] = []
        if tree:
            entries, exits = tree.draw(canvas, branch_x, y + 26, branch_width)
            canvas.fan((stream_x, y + 6), entries, y + 6)
            y += 26 + tree.height(branch_width)
        for box in joined:
            y += 18
            if _is_sum(box):
                canvas.gather(exits, y, [(stream_x + 8, y)])
                canvas.stream_to(stream_x, y - 8)
                canvas.plus(stream_x, y)
                canvas.stream_from(stream_x, y + 8)
                y += 20
            canvas.stream_to(stream_x, y)
            box.draw(canvas, x, y, full)
            y += box.height(full)
            canvas.stream_from(stream_x, y)
        y += 8
    if layers:
        canvas.panel(0, panel, width, y - panel + 2, f"block × {layers}", layers)
        canvas.note(stream_x + 10, panel + 17, "residual stream")
    if behind:
        canvas.stream_to(stream_x, y + 22)
    canvas.height = _chain(canvas, x, y + 22, full, behind, []) + 4
    return canvas


def _wide(parts: dict[str, Rows]) -> Canvas:
    """The stream runs from left to right; both branches hang below it, side by side."""
    width, end_width, pad, bus = 1080.0, 132.0, 16.0, 24.0
    canvas, layers = Canvas(width), _num_layers(parts)
    before, beside, behind = _ends(parts)
    branches = {name: _branch(parts[name], layers) for name in BRANCHES if parts[name]}
    # The stream is as high as its highest box asks; what comes before the last embedding stands above that.
    heights = [box.height(end_width) for box in [*before[-1:], *behind[:1]]]
    half = max(heights + [box.height(box.need) for _, joined in branches.values() for box in joined]) / 2
    stream_y = 50 + half + sum(box.height(end_width) + 24 for box in before[:-1])
    below, branch_y = stream_y + half, stream_y + half + 42
    start = stream_y - sum(box.height(end_width) + 24 for box in before[:-1])
    start -= before[-1].height(end_width) / 2 if before else 0
    bottom = _chain(canvas, 0, start, end_width, before, canvas.pill(0, 2, end_width, _tokens(parts)))
    canvas.stream_from(end_width, stream_y)

    left, right = end_width + 24, width - end_width - 32
    at = left + pad
    # Room by the boxes side by side, but no less than what stands on the stream above takes.
    lanes = {name: min(4, max(LEAST_LANES[name], tree.lanes)) if tree else 1 for name, (tree, _) in branches.items()}
    least = {name: sum(box.need + pad for box in joined) + 50 for name, (_, joined) in branches.items()}
    spare = right - left - pad - (pad + bus) * len(branches)
    widths = {name: spare * lanes[name] / sum(lanes.values()) for name in branches}
    for name in branches:
        lacking = max(0.0, least[name] - bus - widths[name])
        widths = {other: own + (lacking if other == name else -lacking) for other, own in widths.items()}
    deepest = max((tree.height(widths[name]) for name, (tree, _) in branches.items() if tree), default=0)
    for name, (tree, joined) in branches.items():
        edge = at + widths[name] + bus
        x = edge - sum(box.need + pad for box in joined) + pad
        sum_x, lift = x - pad - 4, edge - bus / 2 + 2
        if tree:
            tree.stretch(widths[name], deepest)
            entries, exits = tree.draw(canvas, at, branch_y, widths[name])
            canvas.fan((at + 20, stream_y), entries, branch_y - 16)
            if sum_x - at > 140:
                canvas.note(at + 32, stream_y - 8, "residual stream")
            foot = branch_y + tree.height(widths[name]) + 14
            bottom = max(bottom, foot)
            route = [(lift, foot), (lift, below + 10), (sum_x, below + 10), (sum_x, stream_y + 8)]
            canvas.gather(exits, foot, route)
        for box in joined:
            if _is_sum(box):
                canvas.stream_to(sum_x - 8, stream_y)
                canvas.plus(sum_x, stream_y)
                canvas.stream_from(sum_x + 8, stream_y)
            canvas.stream_to(x, stream_y)
            box.draw(canvas, x, stream_y - box.height(box.need) / 2, box.need)
            canvas.stream_from(x + box.need, stream_y)
            x += box.need + pad
        at = edge + pad
    if layers:
        top = below - 2 * half - 34
        canvas.panel(left, top, right - left + 8, bottom + 14 - top, f"block × {layers}", layers)
    if behind:
        canvas.stream_to(width - end_width, stream_y)
        top = stream_y - behind[0].height(end_width) / 2
        bottom = max(bottom, _chain(canvas, width - end_width, top, end_width, behind, []))
    for box in beside:
        x, y, _, height = canvas.places.get("rope", (0.0, below + 60, 0.0, 0.0))
        y += height / 2
        box.draw(canvas, 0, y - box.height(end_width) / 2, end_width)
        if x:
            canvas.line([(end_width, y), (x, y)], dashed=True)
        bottom = max(bottom, y + box.height(end_width) / 2)
    canvas.height = bottom + 20
    return canvas


def _chain(canvas: Canvas, x: float, y: float, width: float, boxes: list[Box], exits: list[Span]) -> float:
    """Boxes below each other, the first at height `y`; returns where the last ends."""
    for place, box in enumerate(boxes):
        y += 24 if place else 0
        entries, below = box.draw(canvas, x, y, width)
        canvas.connect(exits, entries)
        exits, y = below, below[0].y
    return y


def _tree(rows: Rows, num_layers: int) -> Column:
    """How the operations of a branch stand to each other."""
    experts = [row for row in rows if row["name"].startswith(("router", "experts"))]
    dense = [row for row in rows if row["times"] < num_layers and row not in experts]
    if experts and dense:
        before = [row for row in rows if row not in experts and row not in dense]
        first = dense[0]["times"]
        frames = [Frame(_layers(1, first), _tree(dense, 0)), Frame(_layers(first + 1, num_layers), _tree(experts, 0))]
        return Column([*_tree(before, num_layers).children, Parallel(frames)])
    nodes: list[Node] = []
    for in_lanes, run in groupby(rows, lambda row: row["name"] in LANES):
        boxes = [Box(row) for row in run]
        if not in_lanes:
            nodes += boxes
            continue
        lanes: dict[str, list[Node]] = {}
        for box in boxes:
            lanes.setdefault(LANES[box.row["name"]], []).append(box)
        columns = [lane[0] if len(lane) == 1 else Column(lane) for lane in lanes.values()]
        nodes.append(columns[0] if len(columns) == 1 else Parallel(columns))
    return Column(_values_wait(nodes))


def _values_wait(nodes: list[Node]) -> list[Node]:
    """Values pass beside whatever queries and keys go through before they meet."""
    start = next((i for i, node in enumerate(nodes) if isinstance(node, Parallel) and len(node.children) == 3), None)
    end = next((i for i, node in enumerate(nodes) if isinstance(node, Box) and node.row["name"] in MIXING), None)
    if start is None or end is None or end == start + 1:
        return nodes
    *scoring, value = nodes[start].children
    beside = Parallel([Column([Parallel(scoring), *nodes[start + 1 : end]]), value])
    return [*nodes[:start], beside, *nodes[end:]]


def _branch(rows: Rows, num_layers: int) -> tuple[Column | None, list[Box]]:
    """A branch, and the boxes on the stream: the residual sum and what follows it."""
    place = next((place for place, row in enumerate(rows) if row["name"].endswith("residual")), len(rows))
    return _tree(rows[:place], num_layers) if place else None, [Box(row) for row in rows[place:]]


def _ends(parts: dict[str, Rows]) -> tuple[list[Box], list[Box], list[Box]]:
    """Boxes before the blocks on the stream, beside it, and behind the blocks."""
    before = [Box(row) for row in parts["embedding"] if row["name"] != "rotary angles"]
    beside = [Box(row, dashed=True) for row in parts["embedding"] if row["name"] == "rotary angles"]
    return before, beside, [Box(row) for row in parts["output"]]


def _is_sum(box: Box) -> bool:
    return box.row["name"].endswith("residual")


def _num_layers(parts: dict[str, Rows]) -> int:
    return max((row["times"] for name in BRANCHES for row in parts[name]), default=0)


def _layers(first: int, last: int) -> str:
    return f"layer {first}" if first == last else f"layers {first}–{last}"


def _tokens(parts: dict[str, Rows]) -> str:
    """The label of what goes in: the shape of the first result, the width left out."""
    first = next(row for rows in parts.values() for row in rows)
    return f"tokens {first['shape'].rpartition(' × ')[0]}".strip()
