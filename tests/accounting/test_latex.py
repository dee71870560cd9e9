"""The formulas that are shown say what the formulas that are evaluated say."""

import re

import pytest

from core.accounting import OPERATIONS, OPTIMIZERS
from core.accounting.formulas import SYMBOLS, Formula, scope
from core.accounting.generation import KV_CACHE_BYTES_PER_TOKEN
from core.accounting.memory import TEXTBOOK_ACTIVATION_BYTES, TEXTBOOK_STATE_BYTES
from core.accounting.operations import CELLS

VALUES = {name: 101 + 97 * place for place, name in enumerate(SYMBOLS)}
ROWS = (*OPERATIONS, *(optimizer.row for optimizer in OPTIMIZERS.values()))
ALL = {getattr(row, cell) for row in ROWS for cell in CELLS}
ALL |= {axis for row in ROWS for axis in row.axes}
ALL |= {formula for choice in OPTIMIZERS.values() for formula in (choice.state_bytes, choice.temporary_bytes)}
ALL |= {*KV_CACHE_BYTES_PER_TOKEN.values(), *TEXTBOOK_ACTIVATION_BYTES.values(), TEXTBOOK_STATE_BYTES}


def read_latex(text):
    """The integer that LaTeX mathematics stands for, by a reader that knows nothing of how it was written."""
    for name, (symbol, _) in sorted(SYMBOLS.items(), key=lambda entry: -len(entry[1][0])):
        text = re.sub(rf"(?<![A-Za-z\\@]){re.escape(symbol)}(?![A-Za-z_@])", f"@{name}@", text)
    text = re.sub(r"\^\{(\d+)\}", r"**\1", text)
    text = text.replace(r"\left\lfloor \frac{", "((").replace("}{", ")//(").replace(r"} \right\rfloor", "))")
    text = text.replace("@", "").replace(r"\max", "max").replace(r"\min", "min")
    assert not set(text) & set("{}\\^_"), text
    return eval(re.sub(r"(?<=[\w)]) +(?=[\w(])", "*", text), scope(VALUES))  # a gap between factors is a product


@pytest.mark.parametrize("text", ["d*(B + T)*d", "B - (T - d)", "B - (T + d)*2", "2*(B*T + 3*d*d)//2*5", "3*2*B*0"])
def test_latex_of_small_formulas(text):
    formula = Formula(text)
    assert read_latex(formula.latex()) == formula(scope(VALUES))


def test_latex_of_every_formula():
    assert [formula.text for formula in ALL if read_latex(formula.latex()) != formula(scope(VALUES))] == []
    assert len(ALL) > 200
