"""A table that can be linked into: every row is an anchor."""

from collections.abc import Sequence
from html import escape
from typing import Any

STYLE = """<style>
.linked-table { overflow-x: auto; font-size: 0.8rem; }
.linked-table table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.linked-table th, .linked-table td { padding: 0.25rem 0.6rem; text-align: right; white-space: nowrap; }
.linked-table th { vertical-align: bottom; white-space: normal; min-width: 5.5rem; }
.linked-table th:first-child, .linked-table td:first-child { text-align: left; }
.linked-table tr { border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); }
.linked-table tr:target { background: color-mix(in srgb, #e69f00 30%, transparent); }
</style>"""


def anchor(prefix: str, name: str) -> str:
    """The id of a row: letters, digits and dashes.

    >>> anchor("operation", "lm_head (tied)")
    'operation-lm-head-tied'
    """
    letters = "".join(letter if letter.isalnum() else " " for letter in name)
    return "-".join([prefix, *letters.split()])


def linked_table(rows: Sequence[dict[str, Any]], prefix: str) -> str:
    """Rows as an HTML table; the first column names the row, and with the prefix its id. Integers get separators."""
    titles = list(rows[0])
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    lines = []
    for row in rows:
        cells = "".join(f"<td>{escape(_text(row[title]))}</td>" for title in titles)
        lines.append(f'<tr id="{anchor(prefix, str(row[titles[0]]))}">{cells}</tr>')
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'{STYLE}<div class="linked-table">{table}</div>'


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and value else "" if value == 0 else str(value)
