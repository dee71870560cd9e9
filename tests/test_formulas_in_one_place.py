"""Architecture: what a model costs is written in core/accounting and nowhere else."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {
    path.relative_to(ROOT).as_posix(): path for top in ("core", "notebooks") for path in (ROOT / top).rglob("*.py")
}
SIZES = {"vocab_size", "context_length", "d_model", "num_layers", "num_heads", "num_kv_heads", "kv_heads", "d_head"}
SIZES |= {"head_dim", "d_ff", "num_experts", "experts_per_token", "batch_size", "seq", "seq_len"}
COUNTS = {"tokens", "batch_tokens", "parameters", "active_parameters", "num_parameters"}


def factors(node):
    """The factors of a product, powers taken apart."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return [*factors(node.left), *factors(node.right)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return [node.left, node.left]
    return [node]


def name_of(node):
    """`d_model` of d_model, config.model.d_model, config["d_model"] and slider.value.d_model."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return node.slice.value
    return node.id if isinstance(node, ast.Name) else None


def cost_formulas(source):
    """Products that only a cost is: a number times two sizes, three sizes, layers times anything, 6 N D.

    Two sizes alone are a width or a number of tokens (heads x d_head, batch_size x seq), one and a number a ratio
    (4 x d_model): those are no costs.
    """
    inner = set()
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)) or node in inner:
            continue
        inner |= {child for child in ast.walk(node) if child is not node}
        parts = factors(node)
        sizes = [name for part in parts if (name := name_of(part)) in SIZES]
        counts = [name for part in parts if (name := name_of(part)) in COUNTS]
        number = any(isinstance(part, ast.Constant) for part in parts)
        is_cost = len(sizes) + number >= 3 or (counts and len(sizes) + len(counts) + number >= 3)
        if is_cost or "num_layers" in sizes:
            yield ast.unparse(node)


@pytest.mark.parametrize("path", [path for path in SOURCES if not path.startswith("core/accounting/")])
def test_no_cost_formula_outside_of_accounting(path):
    assert list(cost_formulas(SOURCES[path].read_text())) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2 * batch_size * seq * model.d_model * model.d_ff", True),
        ("4 * config['d_model'] ** 2", True),
        ("12 * num_layers", True),
        ("blocks = model.num_layers * block", True),
        ("6 * costs.parameters * costs.tokens", True),
        ("vocab_size * d_model * 4", True),
        ("flop = 2 * (batch_size * seq) * width", True),
        ("num_heads * d_head", False),
        ("batch_size * context_length", False),
        ("d_ff = 4 * d_model", False),
        ("step * batch_tokens", False),
        ("2 * costs.training_step_flop", False),
        ("'2 * d_model * d_ff'", False),
    ],
)
def test_what_counts_as_a_formula(text, found):
    assert bool(list(cost_formulas(text))) == found
