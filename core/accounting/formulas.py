"""Formulas: one string each, which is evaluated to an exact integer, shown, and set as LaTeX."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

SYMBOLS: dict[str, tuple[str, str]] = {
    "B": ("B", "batch_size, sequences"),
    "T": ("T", "tokens of a sequence that are computed"),
    "S": ("S", "keys that a query may find: T, or in decoding the cached positions and its own"),
    "V": ("V", "vocab_size"),
    "K": ("K", "tokens whose logits exist at once: all of the batch, or loss_chunk"),
    "C": ("C", "context_length"),
    "d": ("d", "d_model"),
    "L": ("L", "num_layers"),
    "D": ("L_D", "layers with the plain feed-forward"),
    "h": ("h", "num_heads"),
    "kv": ("h_{kv}", "heads of keys and values"),
    "dk": ("d_k", "width of a head's query and key (d_head)"),
    "dv": ("d_v", "width of a head's value (d_head)"),
    "f": ("f", "d_ff"),
    "E": ("E", "num_experts"),
    "A": ("A", "experts_per_token"),
    "X": ("X", "num_shared experts"),
    "fe": ("f_e", "d_ff of one expert"),
    "rq": ("r_q", "query_rank"),
    "rkv": ("r_{kv}", "key_value_rank"),
    "dn": ("d_n", "d_nope"),
    "dr": ("d_r", "d_rope"),
    "P": ("P", "parameters in all"),
    "M": ("M", "parameters of the blocks' matrices, which Muon moves"),
    "N": ("N", "FLOP of Muon's Newton-Schulz iterations"),
    "W": ("W", "numbers that these read and write"),
    "Z": ("Z", "numbers that they hold at once, for the largest matrix"),
    "s": ("s", "bytes of a stored number: a weight, the residual stream, a statistic"),
    "c": ("c", "bytes of a number in a matrix product"),
    "q": ("q", "bytes kept of a number that was cast for a product: c, or 0 where nothing is cast"),
    "b": ("b", "1 with biases, else 0"),
    "u": ("u", "bytes of the original that outlives its cast for a while: s, or 0 where nothing is cast"),
    "a": ("a", "bytes that a cast moves, read and written: s + c, or 0 where nothing is cast"),
}
"""Every name a formula may use: its LaTeX and what it stands for."""


@dataclass(frozen=True, slots=True)
class Formula:
    """An integer expression over `SYMBOLS`, with + - * //, max and min.

    Raises:
        ValueError: If it uses anything else.
    """

    text: str
    also: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """Further names it may use."""
    code: CodeType = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            tree = ast.parse(self.text, mode="eval")
        except SyntaxError:
            raise ValueError(f"{self.text!r} is no expression") from None
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id not in (*SYMBOLS, *self.also, "max", "min"):
                raise ValueError(f"{self.text!r}: {node.id!r} is no symbol; there are {', '.join(SYMBOLS)}")
            fraction = isinstance(node, ast.Constant) and type(node.value) is not int
            call = isinstance(node, ast.Call) and ast.unparse(node.func) not in ("max", "min")
            if fraction or call or not isinstance(node, _ALLOWED):
                raise ValueError(f"{self.text!r}: only symbols, integers, + - * //, max and min are formulas")
        object.__setattr__(self, "code", compile(tree, "<formula>", "eval"))

    def __call__(self, names: dict[str, Any]) -> int:
        """The exact integer for these values; `names` must come from `scope`."""
        return eval(self.code, names)

    def __str__(self) -> str:
        return self.text

    @property
    def is_zero(self) -> bool:
        """Whether the formula is the number 0."""
        return self.text == "0"

    def latex(self) -> str:
        """The same expression as LaTeX mathematics.

        >>> Formula("2*B*T*d*d + 4*(V - T)").latex()
        '2 B T d^{2} + 4 (V - T)'
        """
        return _latex(ast.parse(self.text, mode="eval").body)


_ALLOWED = (
    ast.Expression,
    ast.BinOp,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.FloorDiv,
    ast.Call,
    ast.Name,
    ast.Load,
    ast.Constant,
)


def scope(values: Mapping[str, int]) -> dict[str, Any]:
    """What a formula is evaluated in: these values, `max` and `min`, nothing else."""
    return {**values, "max": max, "min": min, "__builtins__": {}}


def _factors(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return [*_factors(node.left), *_factors(node.right)]
    return [node]


def _latex(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Name):
        return SYMBOLS[node.id][0]
    if isinstance(node, ast.Call):
        return rf"\{ast.unparse(node.func)}({', '.join(_latex(argument) for argument in node.args)})"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv):
        return rf"\left\lfloor \frac{{{_latex(node.left)}}}{{{_latex(node.right)}}} \right\rfloor"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return _product(_factors(node))
    left, right = _latex(node.left), _latex(node.right)
    if (
        isinstance(node.op, ast.Sub)
        and isinstance(node.right, ast.BinOp)
        and isinstance(node.right.op, ast.Add | ast.Sub)
    ):
        right = f"({right})"
    return f"{left} {'+' if isinstance(node.op, ast.Add) else '-'} {right}"


def _product(factors: list[ast.expr]) -> str:
    """Factors in their order, equal symbols gathered into one power at the place of the first, constants in front."""
    number, powers = 1, {}
    for factor in factors:
        if isinstance(factor, ast.Constant):
            number *= factor.value
            continue
        text = _latex(factor)
        if isinstance(factor, ast.BinOp) and isinstance(factor.op, ast.Add | ast.Sub):
            text = f"({text})"
        powers[text] = powers.get(text, 0) + 1
    words = [text if power == 1 else f"{text}^{{{power}}}" for text, power in powers.items()]
    return " ".join([str(number), *words] if number != 1 or not words else words)
