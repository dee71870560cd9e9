"""One token as HTML: nothing in it is invisible, and the page's theme mixes its colours."""

import unicodedata
from collections.abc import Iterable
from html import escape

from core.charts.style import PALETTE

_SIGNS = {" ": "·", "\n": "↵", "\t": "→", "\r": "␍"}
_LABELS = {
    **{"\u00a0": "NBSP", "\u200b": "ZWSP", "\u200c": "ZWNJ", "\u200d": "ZWJ", "\ufe0f": "VS16", "\ufeff": "BOM"},
    **{"\x00": "NUL", "\x1b": "ESC", "\x7f": "DEL", "\u00ad": "SHY", "\u202f": "NNBSP"},
}
_INVISIBLE = ("Z", "C")
_COLOURS = [PALETTE[place] for place in (0, 1, 5, 2, 3)]
"""Neighbours far apart, on dark ground too: there the palette's orange and its amber are the same brown."""

STYLE = (
    "<style>"
    + "".join(f".tokens .c{place} {{ --hue: {colour}; }}" for place, colour in enumerate(_COLOURS))
    + """
.tokens { --hue: #888888; --much: 30%; --little: 12%; font-size: 0.875rem; }
.dark .tokens { --much: 48%; --little: 14%; }
.tokens .chip { --hue: #888888; display: inline-flex; flex-direction: column; vertical-align: top; max-width: 100%;
  box-sizing: border-box; margin: 0 1px 5px 0; padding: 1px 2px 4px; border-radius: 3px; text-align: center;
  font-family: var(--monospace-font, ui-monospace, monospace); line-height: 1.35; overflow-wrap: anywhere;
  background: linear-gradient(to right, var(--hue) calc(100% - 1px), transparent 0) left bottom /
  calc(100% / var(--n, 1)) 3px repeat-x, color-mix(in srgb, var(--hue) var(--much), transparent); }
.tokens .chip.byte { --much: var(--little); }
"""
    + "".join(f".tokens .chip.c{place} {{ --hue: {colour}; }}\n" for place, colour in enumerate(_COLOURS))
    + """.tokens .chip.first { margin-left: 5px; }
.tokens .chip small { font-size: 0.625rem; line-height: 1.3; opacity: 0.8; font-variant-numeric: tabular-nums; }
.tokens .chip i, .tokens .label { font-style: normal; opacity: 0.6; }
.tokens .label { font-size: 0.625rem; border: 1px solid currentColor; border-radius: 2px; padding: 0 2px; }
.tokens .chip.part bdi { font-size: 0.75rem; line-height: 1.575; }
.tokens .chip.part { background: linear-gradient(to right, var(--hue) calc(100% - 1px), transparent 0) left bottom /
  calc(100% / var(--n, 1)) 3px repeat-x, repeating-linear-gradient(-45deg, color-mix(in srgb, var(--hue) 36%,
  transparent) 0 3px, color-mix(in srgb, var(--hue) var(--little), transparent) 3px 6px); }
.tokens .chip.special { font-weight: 600; outline: 1px solid var(--hue); outline-offset: -1px; }
.tokens .chip.next { outline: 2px solid currentColor; outline-offset: -1px; }
.tokens .torn { display: inline-flex; flex-direction: column; vertical-align: top; max-width: 100%;
  margin-bottom: 5px; }
.tokens .torn .chip { margin-bottom: 2px; }
.tokens .torn.first { margin-left: 5px; }
.tokens .torn .chip.first { margin-left: 0; }
.tokens .torn .whole { border: 1px solid color-mix(in srgb, currentColor 45%, transparent); border-top: none;
  border-radius: 0 0 4px 4px; text-align: center; line-height: 1.3; margin-right: 1px; padding: 0 2px; }
.token-panels { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, var(--least)), 1fr)); }
.token-panel { position: relative; display: flex; flex-direction: column; min-width: 0; border-radius: 8px;
  border: 1px solid color-mix(in srgb, currentColor 22%, transparent); padding: 0.7rem 0.8rem 0; }
.token-panel .head { display: flex; flex-wrap: wrap; gap: 0 0.6rem; align-items: baseline; }
.token-panel .head b { font-size: 1rem; }
.token-panel .head span { opacity: 0.75; }
.token-panel .counts { display: flex; flex-wrap: wrap; gap: 0 1.1rem; font-variant-numeric: tabular-nums; }
.token-panel .share { height: 4px; border-radius: 2px; margin: 0.35rem 0 0.6rem;
  background: linear-gradient(to right, #2F8FD8 var(--share), color-mix(in srgb, currentColor 15%, transparent) 0); }
.token-panel .strip { flex: 1; max-height: 40rem; overflow-y: auto; }
.token-panel .hint { min-height: 4.6rem; padding: 0.4rem 0 0.5rem; box-sizing: border-box; font-size: 0.75rem;
  border-top: 1px solid color-mix(in srgb, currentColor 15%, transparent); margin-top: 0.4rem; }
.token-panel .hint span { opacity: 0.65; }
.token-panel .chip[data-about] { cursor: default; }
.token-panel .chip[data-about]:hover, .token-panel .chip[data-about]:focus { outline: 2px solid var(--hue);
  outline-offset: -1px; }
.token-panel .strip:hover .chip:focus:not(:hover)::after { content: none; }
.token-panel .chip[data-about]:hover::after, .token-panel .chip[data-about]:focus::after { content: attr(data-about);
  position: absolute; left: 0.8rem; right: 0.8rem; bottom: 0; height: 4.5rem; box-sizing: border-box;
  padding: 0.4rem 0; white-space: pre-wrap; overflow: hidden; text-align: left; font-size: 0.75rem; font-weight: 400;
  line-height: 1.3; background: var(--background, Canvas); z-index: 1; }
.token-controls { display: flex; gap: 0.8rem; border-left: 3px solid #2F8FD8; padding: 0.1rem 0 0.1rem 0.7rem; }
.token-controls > b { line-height: 2.25rem; }
.token-controls > div { display: flex; flex-wrap: wrap; align-items: center; gap: 0.1rem 1.5rem; min-width: 0; }
.token-columns { display: grid; gap: 1.5rem 3rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.token-columns > div { min-width: 0; }
.token-table { --ground: var(--background, Canvas); overflow-x: auto; background:
  linear-gradient(to right, var(--ground) 40%, transparent) left / 3rem 100% no-repeat local,
  linear-gradient(to left, var(--ground) 40%, transparent) right / 3rem 100% no-repeat local,
  linear-gradient(to right, color-mix(in srgb, currentColor 35%, transparent), transparent) left / 0.8rem 100%
  no-repeat,
  linear-gradient(to left, color-mix(in srgb, currentColor 35%, transparent), transparent) right / 0.8rem 100%
  no-repeat; }
.token-table table { border-collapse: collapse; }
.token-table th, .token-table td { text-align: left; vertical-align: top; padding: 0.3rem 0.9rem 0.2rem 0; }
.token-table th { font-weight: 500; opacity: 0.75; }
.token-table tr + tr, .token-table tbody tr { border-top: 1px solid color-mix(in srgb, currentColor 15%, transparent); }
.token-table td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.token-table td.pair { white-space: nowrap; }
.token-table td.pair .chip { max-width: 8rem; }
.token-table td.strip { min-width: 7.25rem; }
.token-table .bar { display: inline-block; height: 0.6rem; border-radius: 2px; background: #2F8FD8;
  margin-right: 0.5rem; width: calc(5rem * var(--share)); }
.token-table tr.next { background: color-mix(in srgb, #E69F00 22%, transparent); }
.token-words { display: flex; flex-wrap: wrap; gap: 0.15rem 1.1rem; }
.token-words.stacked { flex-direction: column; }
.token-words > span { max-width: 100%; }
.token-words .told { opacity: 0.7; font-size: 0.75rem; font-variant-numeric: tabular-nums; }
</style>"""
)


def visible(text: str) -> str:
    """Text as HTML in which nothing is invisible: white space and control characters get signs.

    >>> visible("a b<")
    'a<i>·</i>b&lt;'
    """
    shown = []
    for place, character in enumerate(text):
        if character in _SIGNS:
            shown.append(f"<i>{_SIGNS[character]}</i>")
        elif character in _LABELS or unicodedata.category(character)[0] in _INVISIBLE:
            shown.append(f'<span class="label">{_LABELS.get(character, f"U+{ord(character):04X}")}</span>')
        elif place == 0 and unicodedata.category(character)[0] == "M":
            shown.append(f"◌{character}")  # a mark alone would sit on what stands before it
        else:
            shown.append(escape(character))
    return "".join(shown)


def plain(text: str) -> str:
    r"""The same for places without markup, such as a tooltip.

    >>> plain("a b\u200d")
    'a·b[ZWJ]'
    """
    signs = (
        _SIGNS.get(character)
        or (f"[{_LABELS.get(character, f'U+{ord(character):04X}')}]" if character in _LABELS else "")
        or (f"[U+{ord(character):04X}]" if unicodedata.category(character)[0] in _INVISIBLE else character)
        for character in text
    )
    return "".join(signs)


def is_part(token: bytes) -> bool:
    """Whether the bytes are no UTF-8 by themselves."""
    try:
        token.decode()
    except UnicodeDecodeError:
        return True
    return False


def visible_bytes(token: bytes) -> str:
    """A token as HTML: visible text, or hexadecimal digits if it is no text."""
    return hexadecimal(token) if is_part(token) else visible(token.decode())


def hexadecimal(token: bytes) -> str:
    """Bytes as pairs of digits."""
    return token.hex(" ").upper()


def chip(
    token: bytes, colour: int | None = None, *, under: str = "", about: str = "", classes: Iterable[str] = ()
) -> str:
    """One token; the line under it has as many segments as the token has bytes.

    Args:
        token: Bytes that are no UTF-8 by themselves are written as hexadecimal digits on hatched ground.
        colour: Any number, of which the remainder counts; grey without.
        under: Small print.
        about: Shown at the panel's foot while one points at the token.
        classes: `first` of a pre-token, `special`, `next` to merge.
    """
    words = ["chip", *classes]
    if is_part(token):
        words.append("part")
    if colour is not None:
        words.append(f"c{colour % len(_COLOURS)}")
    small = f"<small>{escape(under)}</small>" if under else ""
    about = escape(about).replace("\n", "&#10;")
    more = f' tabindex="-1" data-about="{about}"' if about else ""
    inner = f"<bdi>{visible_bytes(token)}</bdi>{small}"
    return f'<span class="{" ".join(words)}" style="--n:{len(token)}"{more}>{inner}</span>'
