"""Tokens as pictures: HTML that needs no script, and how the vocabulary's size shortens a text."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import altair as alt

from core.charts.chips import STYLE, chip, hexadecimal, is_part, plain, visible
from core.charts.style import SEEN_THROUGH, Rows, axis, colours, legend, unchecked

UNDER_TOKENS = ("id", "bytes", "position", "nothing")
"""What may stand under each token."""

MOST_TOKENS = 500
"""More are not drawn: a browser slows down."""


def token_strip(
    rows: Rows,
    under: str = "id",
    starts: Iterable[int] = (),
    *,
    about: bool = False,
    breaks: bool = True,
    limit: int = MOST_TOKENS,
) -> str:
    """Tokens one after another; those that share a character between them are held together by it.

    Args:
        rows: Each with `id` and `token` (its bytes), perhaps `start` (its offset in bytes), `special`, and the `rank`
            and `pair` of the merge that makes it; a `colour` (a number) if it is not to follow from the place.
        under: One of `UNDER_TOKENS`.
        starts: Offsets at which pre-tokens begin: a gap is left there.
        about: Whether each token tells about itself when pointed at.
        breaks: Whether a line ends where the text has a line end.
        limit: So many are drawn.

    Raises:
        ValueError: If `under` is none of these.
    """
    if under not in UNDER_TOKENS:
        raise ValueError(f"under is {under!r}: it must be one of {', '.join(UNDER_TOKENS)}")
    starts = set(starts)
    html: list[str] = []
    for group in _by_character(rows[:limit]):
        chips = []
        for place, row in group:
            special = row.get("special", False)
            classes = ["first"] * (row.get("start") in starts) + ["special"] * special
            classes += ["byte"] * (len(row["token"]) == 1 and not special)
            told = _about(row) if about else ""
            colour = row.get("colour", place)
            chips.append(chip(row["token"], colour, under=_small(row, under), about=told, classes=classes))
        if len(group) > 1:
            first = " first" if group[0][1].get("start") in starts else ""
            whole = visible(b"".join(row["token"] for _, row in group).decode(errors="replace"))
            html.append(
                f'<span class="torn{first}"><span>{"".join(chips)}</span><bdi class="whole">{whole}</bdi></span>'
            )
        else:
            html += chips
        if breaks and b"\n" in group[-1][1]["token"]:
            html.append("<br>")
    if len(rows) > limit:
        html.append(f"<p>… and {len(rows) - limit:,} more tokens, counted but not drawn</p>")
    return "".join(html)


def token_panels(panels: Sequence[Mapping[str, Any]], under: str = "id") -> str:
    """The same text as several tokenizers see it, side by side, on a phone one below the other.

    Args:
        panels: Each with `name`, `about`, `rows` and `starts` (as in `token_strip`), `num_bytes` and `num_characters`.
        under: One of `UNDER_TOKENS`.
    """
    most = max((len(panel["rows"]) for panel in panels), default=0)
    html = []
    hint = "<span>Point at a token, or tap it.</span>"  # once: the others have room for what they tell
    for panel in panels:
        count = len(panel["rows"])
        rates = (
            f"<span>{panel['num_bytes'] / count:.2f} bytes/token</span>"
            f"<span>{panel['num_characters'] / count:.2f} characters/token</span>"
            if count
            else ""
        )
        html.append(
            f'<section class="token-panel"><div class="head"><b>{escape(panel["name"])}</b>'
            f"<span>{escape(panel['about'])}</span></div>"
            f'<div class="counts"><span><b>{count:,}</b> {"token" if count == 1 else "tokens"}</span>{rates}</div>'
            f'<div class="share" style="--share:{100 * count / max(most, 1):.1f}%"></div>'
            f'<div class="strip">{token_strip(panel["rows"], under, panel["starts"], about=True)}</div>'
            f'<div class="hint">{hint if panel is panels[0] else ""}</div></section>'
        )
    least = "14.5rem" if len(panels) == 4 else "19rem"  # four in a row, or two and two
    return f'{STYLE}<div class="tokens token-panels" style="--least:{least}">{"".join(html)}</div>'


def token_table(titles: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """A table whose cells are text, numbers, or tokens: rows as in `token_strip`, or a pair of rows and `starts`."""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(map(_cell, line))}</tr>" for line in lines)
    return _table(head, body)


def pair_table(pairs: Rows, ranks: Mapping[bytes, int]) -> str:
    """Adjacent pairs with their counts; the one that is merged next stands out.

    Args:
        pairs: Each with `pair`, `count` and `note`, most preferred first; a `next` that is true marks the winner.
        ranks: The merge that made a token decides its colour; single bytes are grey.
    """
    most = max((row["count"] for row in pairs), default=1)
    lines = []
    for row in pairs:
        left, right = row["pair"]
        bar = f'<span class="bar" style="--share:{row["count"] / most:.3f}"></span>'
        cells = [
            f'<td class="pair">{chip(left, ranks.get(left))}{chip(right, ranks.get(right))}</td>',
            f'<td class="number">{bar}{row["count"]:,}</td>',
            f'<td class="number">{hexadecimal(left)} | {hexadecimal(right)}</td>',
            f"<td>{escape(row['note'])}</td>",
        ]
        lines.append(f'<tr class="next">{"".join(cells)}</tr>' if row["next"] else f"<tr>{''.join(cells)}</tr>")
    return _table("<th>pair</th><th>occurs</th><th>bytes</th><th></th>", "".join(lines))


def word_pieces(words: Rows, ranks: Mapping[bytes, int], *, stacked: bool = False) -> str:
    """Words cut into pieces.

    Args:
        words: Each with `pieces`, `places` (of the left and right pieces that merge next) and `told` (small print).
        ranks: As in `pair_table`.
        stacked: One below the other.
    """
    html = []
    for word in words:
        chips = [
            chip(piece, ranks.get(piece), classes=["next"] * (place in word["places"]))
            for place, piece in enumerate(word["pieces"])
        ]
        html.append(f'<span>{"".join(chips)} <span class="told">{escape(word["told"])}</span></span>')
    return f'{STYLE}<div class="tokens token-words{" stacked" * stacked}">{"".join(html)}</div>'


def control_row(letter: str, controls: Iterable[Any]) -> str:
    """The controls of one tokenizer, as HTML, held together and marked with its letter; a phone breaks the row.

    Args:
        letter: Of the tokenizer.
        controls: Each with its HTML as `text`.
    """
    cells = "".join(f"<span>{control.text}</span>" for control in controls)
    return f'{STYLE}<div class="token-controls"><b>{escape(letter)}</b><div>{cells}</div></div>'


def side_by_side(parts: Iterable[str]) -> str:
    """HTML in two columns; on a phone one below the other."""
    return f'{STYLE}<div class="token-columns">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


@unchecked
def compression_chart(rows: Rows, marks: Rows, title: str) -> alt.LayerChart:
    """Bytes per token of one text against the size of the vocabulary; its scale is that of this text.

    Args:
        rows: `tokenizer`, `vocab_size`, `bytes_per_token`.
        marks: The same fields, for the sizes chosen now.
        title: Which text was encoded.
    """
    names = list(dict.fromkeys(row["tokenizer"] for row in rows))
    x = alt.X("vocab_size:Q", title="vocabulary size (tokens)", axis=axis(), scale=alt.Scale(type="log", nice=False))
    y = alt.Y("bytes_per_token:Q", title="bytes per token", axis=axis(format="~g"), scale=alt.Scale(zero=False))
    colour = alt.Color("tokenizer:N", scale=colours(names), legend=legend(symbolSize=140))
    tooltip = [
        alt.Tooltip("tokenizer:N"),
        alt.Tooltip("vocab_size:Q", title="vocabulary", format=","),
        alt.Tooltip("bytes_per_token:Q", title="bytes per token", format=".3f"),
    ]
    lines = alt.Chart(alt.Data(values=list(rows))).mark_line(strokeWidth=2).encode(x, y, colour, tooltip=tooltip)
    points = (
        alt.Chart(alt.Data(values=list(marks))).mark_point(size=80, filled=True).encode(x, y, colour, tooltip=tooltip)
    )
    return (lines + points).properties(**SEEN_THROUGH, height=240, title=title)


def _table(head: str, body: str) -> str:
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'{STYLE}<div class="tokens token-table">{table}</div>'


def _by_character(rows: Rows) -> list[list[tuple[int, dict[str, Any]]]]:
    """Numbered rows, those together that a character lies across: a token that begins with a continuation byte."""
    groups: list[list[tuple[int, dict[str, Any]]]] = []
    for place, row in enumerate(rows):
        if groups and 0x80 <= row["token"][0] < 0xC0:
            groups[-1].append((place, row))
        else:
            groups.append([(place, row)])
    return groups


def _small(row: Mapping[str, Any], under: str) -> str:
    if under == "position":
        return f"{row['start']}–{row['start'] + len(row['token']) - 1}"
    return {"id": str(row["id"]), "bytes": hexadecimal(row["token"]), "nothing": ""}[under]


def _about(row: Mapping[str, Any]) -> str:
    token: bytes = row["token"]
    last = row["start"] + len(token) - 1
    where = f"byte {last}" if len(token) == 1 else f"bytes {row['start']}–{last}"
    text = f"“{plain(token.decode(errors='replace'))}”" + ", no UTF-8 by itself" * is_part(token)
    if row["special"]:
        origin = "a special token: no merge makes it"
    elif row["rank"] is None:
        origin = "a single byte: in every vocabulary" if len(token) == 1 else "no merge makes it"
    else:
        left, right = (_plain_bytes(part) for part in row["pair"])
        origin = f"merge {row['rank'] + 1:,}: {left} + {right}"
    return f"{text}\nid {row['id']:,}, {where}: {_shortened(token)}\n{origin}"


def _shortened(token: bytes) -> str:
    return hexadecimal(token) if len(token) <= 16 else f"{hexadecimal(token[:16])} …"


def _plain_bytes(token: bytes) -> str:
    return hexadecimal(token) if is_part(token) else f"“{plain(token.decode())}”"


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    if isinstance(value, int | float):
        return f'<td class="number">{value:,}</td>'
    rows, starts = value if isinstance(value, tuple) else (value, ())
    return f'<td class="strip">{token_strip(rows, starts=starts, breaks=False)}</td>'
