"""Formulas: one string that is evaluated, shown and set; and what they refuse."""

import re

import pytest

from core.accounting import OPERATIONS, OPTIMIZERS
from core.accounting.formulas import SYMBOLS, Formula, scope
from core.accounting.generation import KV_CACHE_BYTES_PER_TOKEN
from core.accounting.memory import TEXTBOOK_ACTIVATION_BYTES, TEXTBOOK_STATE_BYTES
from core.accounting.operations import CELLS, Operation

ALL = {getattr(row, cell).text for row in OPERATIONS for cell in CELLS}
ALL |= {formula.text for choice in OPTIMIZERS.values() for formula in (choice.state_bytes, choice.temporary_bytes)}
ALL |= {getattr(choice.row, cell).text for choice in OPTIMIZERS.values() for cell in CELLS}
ALL |= {formula.text for formula in (*KV_CACHE_BYTES_PER_TOKEN.values(), *TEXTBOOK_ACTIVATION_BYTES.values())}
ALL |= {TEXTBOOK_STATE_BYTES.text, *(axis.text for row in OPERATIONS for axis in row.axes)}


@pytest.mark.parametrize(
    ("text", "value", "latex"),
    [
        ("2*B*T*d*d", 2 * 3 * 5 * 7 * 7, "2 B T d^{2}"),
        ("4*(V - T)*2", 8 * (11 - 5), "8 (V - T)"),
        ("V - (T + d)", 11 - 12, "V - (T + d)"),
        ("V - T + d", 13, "V - T + d"),
        ("max(B*T, d)", 15, r"\max(B T, d)"),
        ("min(B, d + V)", 3, r"\min(B, d + V)"),
        ("T*(T + 1)//2", 15, r"\left\lfloor \frac{T (T + 1)}{2} \right\rfloor"),
        ("0", 0, "0"),
        ("1*V", 11, "V"),
    ],
)
def test_evaluated_and_set(text, value, latex):
    formula = Formula(text)
    assert formula(scope({"B": 3, "T": 5, "d": 7, "V": 11})) == value
    assert formula.latex() == latex
    assert str(formula) == text


@pytest.mark.parametrize(
    "text",
    ["B*w", "B*2.5", "B**2", "B/2", "__import__('os')", "B.real", "[B]", "B if T else d", "abs(B)", "B(T)", "2*"],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match=re.escape(text.split("(")[0][:3])):
        Formula(text)


def test_a_formula_sees_nothing_but_its_symbols():
    assert set(scope({"B": 1})) == {"B", "max", "min", "__builtins__"}
    assert scope({})["__builtins__"] == {}


@pytest.mark.parametrize("text", sorted(ALL))
def test_every_formula_can_be_set(text):
    latex = Formula(text).latex()
    assert latex.count("{") == latex.count("}")
    assert latex.count("(") == latex.count(")")
    known = {word for symbol, _ in SYMBOLS.values() for word in re.findall(r"[A-Za-z]+", symbol)}
    words = set(re.findall(r"[A-Za-z]+", latex)) - {"max", "min", "left", "right", "frac", "lfloor", "rfloor"}
    assert words <= known


def test_every_symbol_is_used_and_explained():
    used = {word for text in ALL for word in re.findall(r"[A-Za-z]+", text)} - {"max", "min"}
    assert used == set(SYMBOLS)
    assert all(meaning for _, meaning in SYMBOLS.values())
    latex = [symbol for symbol, _ in SYMBOLS.values()]
    assert len(latex) == len(set(latex))


def test_a_row_evaluated_at_once_is_its_cells_one_by_one():
    symbols = scope(dict.fromkeys(SYMBOLS, 1) | {"B": 3, "T": 5, "S": 7, "d": 11, "h": 13, "V": 17, "f": 19, "s": 4})
    for row in OPERATIONS:
        assert row.evaluate(symbols) == {
            cell: getattr(row, cell)(symbols) for cell in CELLS[1:] if not getattr(row, cell).is_zero
        }


def test_an_unknown_group_is_refused():
    with pytest.raises(ValueError, match="group is 'mlp'"):
        Operation(name="x", group="mlp", times="1")
