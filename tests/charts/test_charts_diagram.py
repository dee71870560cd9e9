"""The diagram of every kind of model: a box for each operation, with its numbers, within its borders."""

import dataclasses
import re
import xml.etree.ElementTree as ElementTree

import pytest

from core import charts
from core.accounting import account
from core.charts.style import short_bytes, si
from core.config import ModelConfig
from core.config.model import ExpertsConfig, LatentConfig

PLAIN = ModelConfig(vocab_size=1009, context_length=64, d_model=48, num_layers=5, num_heads=3, d_ff=136)
EXPERTS = ExpertsConfig(num_experts=7, experts_per_token=2, d_ff=40, num_shared=1, num_dense_layers=2, router_bias=True)
LATENT = LatentConfig(query_rank=20, key_value_rank=14, d_nope=10, d_rope=6, d_value=11)
MODELS = {
    "plain": PLAIN,
    "no norms": dataclasses.replace(PLAIN, norm_placement="none", positions="none", tie_embeddings=True),
    "post-norm": dataclasses.replace(PLAIN, norm_placement="post", positions="learned", attention="written_out"),
    "no gate": dataclasses.replace(PLAIN, feed_forward="silu"),
    "grouped": dataclasses.replace(PLAIN, num_kv_heads=1, qk_norm=True, attention="written_out"),
    "experts": dataclasses.replace(PLAIN, experts=EXPERTS),
    "latent": dataclasses.replace(PLAIN, latent=LATENT, experts=dataclasses.replace(EXPERTS, num_dense_layers=0)),
}
SVG = "{http://www.w3.org/2000/svg}"
ARRANGEMENTS = ("wide", "narrow")


def rows_of(model: ModelConfig) -> list[dict]:
    costs = account(model, batch_size=2)
    return [
        {
            "name": row.name,
            "group": row.group,
            "times": row.times,
            "symbols": row.operation.shape,
            "shape": " × ".join(
                str(eval(axis, {}, {k: v for k, v in costs.symbols.items() if k != "__builtins__"}))
                for axis in row.operation.shape.split(", ")
                if axis
            ),
            "parameters": row.once("parameters"),
            "flop": row.once("forward_flop"),
            "bytes": row.once("forward_eager_bytes"),
            "href": f"#{row.name.replace(' ', '-')}",
        }
        for row in costs.rows
    ]


def pictures(html: str) -> dict[str, ElementTree.Element]:
    """The SVGs by their class; parsing fails where anything was not escaped."""
    drawn = [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]
    return {svg.get("class"): svg for svg in drawn}


def words(element: ElementTree.Element) -> list[str]:
    return [text.text for text in element.iter(f"{SVG}text")]


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("kind", MODELS)
def test_every_operation_has_one_box_with_its_numbers_and_its_link(kind, arrangement):
    rows = [row for row in rows_of(MODELS[kind]) if row["group"] != "update"]
    svg = pictures(charts.diagram(rows_of(MODELS[kind]), title=kind))[arrangement]
    assert svg.find(f"{SVG}title").text == kind
    boxes = {link.get("href"): link for link in svg.iter(f"{SVG}a")}
    assert sorted(link.get("href") for link in svg.iter(f"{SVG}a")) == sorted(row["href"] for row in rows)
    for row in rows:
        box = boxes[row["href"]]
        name, *written = words(box)
        assert name == row["name"]
        numbers = [piece for line in written for piece in line.split(" · ")]
        assert row["shape"].replace(" ", "") in "".join(written).replace(" ", "")
        assert (row["parameters"] > 0) == (f"{si(row['parameters'])} params" in numbers)
        assert (row["flop"] > 0) == (si(row["flop"], "FLOP") in numbers)
        assert (row["bytes"] > 0) == (short_bytes(row["bytes"]) in numbers)
        image = box.find(f"{SVG}g")
        assert image.get("role") == "img"
        assert f"{row['parameters']:,} parameters, {row['flop']:,} FLOP" in image.find(f"{SVG}title").text


@pytest.mark.parametrize("kind", MODELS)
def test_both_arrangements_say_the_same(kind):
    drawn = pictures(charts.diagram(rows_of(MODELS[kind]), title=kind))
    assert list(drawn) == list(ARRANGEMENTS)
    links = [sorted(link.get("href") for link in drawn[name].iter(f"{SVG}a")) for name in ARRANGEMENTS]
    assert links[0] == links[1]
    assert f"block × {PLAIN.num_layers}" in words(drawn["wide"])


def boxes_of(svg: ElementTree.Element) -> dict[str, tuple[float, float, float, float]]:
    """Left, top, right and bottom of every box, by its link."""
    found = {}
    for link in svg.iter(f"{SVG}a"):
        rect = next(link.iter(f"{SVG}rect"))
        x, y, width, height = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
        found[link.get("href")] = (x, y, x + width, y + height)
    return found


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("kind", MODELS)
def test_boxes_lie_in_the_picture_and_apart(kind, arrangement):
    svg = pictures(charts.diagram(rows_of(MODELS[kind]), title=kind))[arrangement]
    _, _, width, height = (float(number) for number in svg.get("viewBox").split())
    boxes = list(boxes_of(svg).values())
    outside = [box for box in boxes if box[0] < 0 or box[1] < 0 or box[2] > width or box[3] > height]
    overlapping = [
        (a, b)
        for place, a in enumerate(boxes)
        for b in boxes[place + 1 :]
        if min(a[2], b[2]) - max(a[0], b[0]) > 0 and min(a[3], b[3]) - max(a[1], b[1]) > 0
    ]
    assert (outside, overlapping) == ([], [])


def test_what_works_on_the_same_stands_side_by_side_and_values_wait():
    wide = pictures(charts.diagram(rows_of(MODELS["grouped"]), title="t"))["wide"]
    boxes = boxes_of(wide)
    assert boxes["#q_proj"][1] == boxes["#k_proj"][1] == boxes["#v_proj"][1]
    assert boxes["#q_proj"][2] < boxes["#k_proj"][0] < boxes["#k_proj"][2] < boxes["#v_proj"][0]
    assert boxes["#gate_proj"][1] == boxes["#up_proj"][1]
    for name in ("#rope", "#attention-scores", "#softmax"):
        assert boxes[name][2] < boxes["#v_proj"][0]
    assert boxes["#attention-weighted-sum"][2] == pytest.approx(boxes["#v_proj"][2])
    # The branches hang side by side in the one arrangement, below each other in the other.
    assert boxes["#attention-norm"][1] == boxes["#feed-forward-norm"][1]
    narrow = boxes_of(pictures(charts.diagram(rows_of(MODELS["grouped"]), title="t"))["narrow"])
    assert narrow["#o_proj"][3] < narrow["#attention-residual"][1] < narrow["#feed-forward-norm"][1]


def test_dense_and_expert_layers_are_two_alternatives():
    wide = pictures(charts.diagram(rows_of(MODELS["experts"]), title="t"))["wide"]
    assert {"layers 1–2", "layers 3–5", "block × 5"} <= set(words(wide))
    boxes = boxes_of(wide)
    assert boxes["#down_proj"][2] < boxes["#experts-down_proj"][0]


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_norms_stand_where_the_rows_put_them(placement):
    model = dataclasses.replace(PLAIN, norm_placement=placement)
    boxes = boxes_of(pictures(charts.diagram(rows_of(model), title="t"))["narrow"])
    assert (boxes["#attention-norm"][1] < boxes["#q_proj"][1]) == (placement == "pre")
    assert (boxes["#attention-norm"][1] > boxes["#attention-residual"][1]) == (placement == "post")


def test_colours_are_the_page_s_own_or_translucent():
    html = charts.diagram(rows_of(PLAIN), title="t")
    for svg in pictures(html).values():
        assert {text.get("fill") for text in svg.iter(f"{SVG}text")} == {"currentColor"}
        for rect in svg.iter(f"{SVG}rect"):
            assert rect.get("fill") == "none" or float(rect.get("fill-opacity")) < 0.5
        strokes = {element.get("stroke") for element in svg.iter() if element.get("stroke")}
        assert strokes <= {"currentColor", *charts.GROUP_COLOURS.values()}


def test_fuller_colour_means_more_of_the_flop():
    rows = rows_of(PLAIN)
    svg = pictures(charts.diagram(rows, title="t"))["wide"]
    fills = {link.get("href"): float(next(link.iter(f"{SVG}rect")).get("fill-opacity")) for link in svg.iter(f"{SVG}a")}
    totals = {row["href"]: row["times"] * row["flop"] for row in rows if row["group"] != "update"}
    assert sorted(fills, key=lambda href: (fills[href], href)) == sorted(totals, key=lambda href: (totals[href], href))
    assert (min(fills.values()), max(fills.values())) == (0.1, 0.44)


def test_strings_are_escaped_and_a_row_without_a_link_is_none():
    rows = rows_of(PLAIN)
    rows[2] |= {"name": '<b>&"', "href": '#"><script>'}
    rows[3] |= {"href": ""}
    html = charts.diagram(rows, title="<i>", bytes_are="bytes & more")
    assert "<script>" not in html
    assert "<b>" not in html
    assert "bytes &amp; more" in html
    for svg in pictures(html).values():
        assert svg.find(f"{SVG}title").text == "<i>"
        links = {link.get("href"): words(link)[0] for link in svg.iter(f"{SVG}a")}
        assert links['#"><script>'] == '<b>&"'
        assert (rows[3]["name"] in words(svg), rows[3]["name"] in links.values()) == (True, False)


def test_no_row_to_draw():
    with pytest.raises(ValueError, match="1 rows, none of which"):
        charts.diagram([row for row in rows_of(PLAIN) if row["name"] == "optimizer"], title="t")
