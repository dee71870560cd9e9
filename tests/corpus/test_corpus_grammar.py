import math
import re
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from core.corpus.grammar import Grammar
from core.corpus.sampling import sample

CATEGORIES = {
    "animal": [
        (3, {"": "cat", "a": "a cat", "A": "A cat"}),
        (2, {"": "owl", "a": "an owl", "A": "An owl"}),
        (1, {"": "dog", "a": "a dog", "A": "A dog"}),
    ],
    "food@cat": [(1, "fish"), (4, "milk")],
    "food@owl": [(1, "mice")],
    "food@dog": [(2, "bones"), (1, "fish"), (2, "milk")],
    "time": [(2, "dawn"), (5, "dusk")],
}
RULES = {
    "story": [
        (3, "{hero:animal.A} met {friend:animal-hero.a}. [ate] [end@hero]"),
        (2, "At {when:time} {one:animal}, {two:animal-one} and {three:animal-one-two} met. [lost]"),
        (1, "Nobody came."),
    ],
    # What is eaten depends on who eats, what is said at the end on what was eaten.
    "ate": [
        (2, "It ate {meal:food@hero}."),
        (1, "The {friend} ate {meal:food@friend} at {when:time}."),
        (1, "Both ate {meal:food@hero} and {other:food@friend-meal}."),
    ],
    "end@cat": [(1, "Purr, {friend}!")],
    "end@owl": [(2, "More {meal}?"), (3, "Hoo.")],
    "end@dog": [(1, "")],
    "lost": [(1, "The {lost=one} slept."), (1, "The {lost=two} slept."), (1, "{lost=three.A} slept, at {when}.")],
}
GRAMMAR = Grammar(RULES, CATEGORIES)
DISTRIBUTION = list(GRAMMAR.enumerate())


def test_the_probabilities_of_all_texts_sum_to_one_exactly():
    assert sum(p for _, p in DISTRIBUTION) == Fraction(1)
    assert len({text for text, _ in DISTRIBUTION}) == len(DISTRIBUTION)


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("Nobody came.", [(1, 6)]),
        # story, cat, owl (of owl and dog), ate, milk, end
        ("A cat met an owl. It ate milk. Purr, owl!", [(3, 6), (3, 6), (2, 3), (2, 4), (4, 5)]),
        # dog (of cat and dog); the owl's mice are the only food; one of two endings remembers them
        ("An owl met a dog. It ate mice. More mice?", [(3, 6), (2, 6), (1, 4), (2, 4), (2, 5)]),
        # the friend eats, at dusk; a dog says nothing
        ("A dog met a cat. The cat ate fish at dusk. ", [(3, 6), (1, 6), (3, 5), (1, 4), (1, 5), (5, 7)]),
        # the cat's milk bars the dog's: bones or fish are left
        ("A cat met a dog. Both ate milk and fish. Purr, dog!", [(3, 6), (3, 6), (1, 3), (1, 4), (4, 5), (1, 3)]),
        # three drawn without replacement; the last one slept
        ("At dawn dog, cat and owl met. An owl slept, at dawn.", [(2, 6), (2, 7), (1, 6), (3, 5), (1, 3)]),
    ],
)
def test_probabilities_worked_out_by_hand(text, choices):
    p = math.prod(Fraction(weight, total) for weight, total in choices)
    assert dict(DISTRIBUTION)[text] == p
    assert GRAMMAR.log_probability(text) == pytest.approx(math.log(p), rel=1e-12)


def test_the_parser_agrees_with_the_list_of_all_texts():
    for text, p in DISTRIBUTION:
        assert len(GRAMMAR.derivations(text)) == 1
        assert math.exp(GRAMMAR.log_probability(text)) == pytest.approx(float(p), rel=1e-12)


def divergence(q):
    """KL divergence from the grammar's distribution to q, in nats."""
    return math.fsum(float(p) * math.log(p / q_of_text) for (_, p), q_of_text in zip(DISTRIBUTION, q, strict=True))


def test_no_distribution_has_a_lower_cross_entropy_than_the_grammar():
    """Gibbs' inequality is why the mean of -log p is a floor under every loss."""
    p = [p for _, p in DISTRIBUTION]
    assert divergence(p) == 0
    assert divergence([math.exp(GRAMMAR.log_probability(text)) for text, _ in DISTRIBUTION]) == pytest.approx(
        0, abs=1e-12
    )
    rng = np.random.default_rng(3)
    for concentration in (1, 30, 1000):
        for _ in range(20):
            assert divergence(rng.dirichlet(concentration * np.array(p, dtype=float) + 0.01)) > 0
    nearly = np.array(p, dtype=float) * (1 + 1e-3 * rng.standard_normal(len(p)))
    assert 0 < divergence(nearly / nearly.sum()) < 1e-5


def test_samples_have_the_grammars_frequencies():
    count = 40_000
    texts, _ = sample(GRAMMAR, count, np.random.default_rng(11))
    found = Counter(texts)
    assert set(found) <= {text for text, _ in DISTRIBUTION}
    # Texts too rare for the normal approximation share a cell.
    common = [(found[text], count * float(p)) for text, p in DISTRIBUTION if count * p >= 10]
    rest = count - sum(n for n, _ in common), count - sum(expected for _, expected in common)
    cells = [*common, rest]
    assert len(cells) > 80
    chi_square = sum((n - expected) ** 2 / expected for n, expected in cells)
    freedom = len(cells) - 1
    assert abs(chi_square - freedom) < 4 * math.sqrt(2 * freedom)


def test_the_samplers_log_probabilities_are_the_texts_own():
    texts, log_p = sample(GRAMMAR, 500, np.random.default_rng(5))
    assert log_p == pytest.approx([GRAMMAR.log_probability(text) for text in texts], rel=1e-12)


def test_the_same_stream_gives_the_same_texts():
    one, two = (sample(GRAMMAR, 300, np.random.default_rng(8)) for _ in range(2))
    assert one[0] == two[0]
    assert one[1].tolist() == two[1].tolist()
    assert one[0] != sample(GRAMMAR, 300, np.random.default_rng(9))[0]


def test_long_texts_have_room():
    grammar = Grammar({"story": [(1, "[ten]" * 50)], "ten": [(1, "{x:digit}" * 10)]}, {"digit": [(1, "0"), (1, "1")]})
    texts, log_p = sample(grammar, 7, np.random.default_rng(0))
    assert [len(text) for text in texts] == [500] * 7
    assert log_p == pytest.approx([-500 * math.log(2)] * 7)
    assert len(set(texts)) == 7


def test_recursion_ends_by_its_own_dice():
    grammar = Grammar({"story": [(1, "."), (1, "a[story]")]}, {})
    assert grammar.log_probability("aaa.") == pytest.approx(-4 * math.log(2))
    texts, log_p = sample(grammar, 200, np.random.default_rng(0))
    assert log_p == pytest.approx([-len(text) * math.log(2) for text in texts])


def test_an_ambiguous_text_has_the_probability_of_all_its_derivations():
    grammar = Grammar({"story": [(1, "a[b]"), (2, "[ab]"), (1, "c")], "b": [(1, "b"), (3, "d")], "ab": [(1, "ab")]}, {})
    assert sorted(grammar.derivations("ab")) == pytest.approx([math.log(1 / 16), math.log(1 / 2)])
    assert grammar.log_probability("ab") == pytest.approx(math.log(9 / 16))
    assert sum(p for text, p in grammar.enumerate() if text == "ab") == Fraction(9, 16)


def test_a_slot_may_be_filled_again():
    grammar = Grammar({"story": [(1, "{x:letter}{x:letter-x}{x}")]}, {"letter": [(1, "a"), (2, "b"), (3, "c")]})
    assert dict(grammar.enumerate())["abb"] == Fraction(1, 6) * Fraction(2, 5)
    assert grammar.log_probability("abb") == pytest.approx(math.log(1 / 15))
    assert sum(p for _, p in grammar.enumerate()) == 1


def test_a_member_of_two_categories_is_one_member():
    grammar = Grammar({"story": [(1, "{x:one}{y:two-x}")]}, {"one": [(1, "a")], "two": [(1, "a"), (1, "b"), (1, "c")]})
    assert dict(grammar.enumerate()) == {"ab": Fraction(1, 2), "ac": Fraction(1, 2)}
    assert set(sample(grammar, 50, np.random.default_rng(0))[0]) == {"ab", "ac"}


@pytest.mark.parametrize(
    ("text", "character", "rest"),
    [
        ("", 0, ""),
        ("Somebody came.", 0, "Somebody came."),
        ("Nobody came. Nobody.", 12, " Nobody."),
        ("Nobody came", 0, "Nobody came"),
        ("A cat met a cat. It ate milk.", 10, "a cat. It ate milk."),  # not itself
        ("A cat met an owl. It ate mice. Purr, owl!", 25, "mice. Purr, owl!"),  # the owl's food
        ("A cat met an owl. It ate milk. Hoo.", 31, "Hoo."),  # the owl's ending
        ("At dawn dog, cat and owl met. An owl slept, at dusk.", 47, "dusk."),  # it was dawn
    ],
)
def test_a_text_from_elsewhere_is_refused_where_it_leaves_the_grammar(text, character, rest):
    with pytest.raises(ValueError, match=re.escape(f"up to character {character}, before {rest!r}")):
        GRAMMAR.log_probability(text)


@pytest.mark.parametrize(
    "template",
    ["[end", "end]", "{x:time", "x}", "{}", "[]", "{x-y}", "{x:time-}", "{x:}", "{x=}", "{x=y-z}", "{x:time@}", "[a b]",
     "{x.}", "{x:time.a.b}", "[{x}]", "{[time]}"],
)  # fmt: skip
def test_a_malformed_sign_is_refused(template):
    with pytest.raises(ValueError, match=re.escape(repr(template))):
        Grammar({"story": [(1, template)]}, {"time": [(1, "dawn")]})


@pytest.mark.parametrize(
    ("rules", "categories", "message"),
    [
        ({"story": [(1, "[end]")]}, {}, "rule 'story' names 'end'"),
        ({"story": [(1, "{x:time}")]}, {}, "rule 'story' names 'time'"),
        ({"story": [(1, "{x:time}[end@x]")]}, {"time": [(1, "dawn")]}, "rule 'story' names 'end'"),
        ({"story": [(1, "{x:time}{y:food@x}")]}, {"time": [(1, "dawn")]}, "rule 'story' names 'food'"),
        ({"story": [(1, "[end]")], "end@a": [(1, "")]}, {}, "rule 'story' names 'end'"),
        ({"story": [(1, "[time]")]}, {"time": [(1, "dawn")]}, "rule 'story' names 'time'"),
        ({"tale": [(1, "text")]}, {}, "no rule 'story'"),
        ({"story": []}, {}, "rule 'story'"),
        ({"story": [(0, "text")]}, {}, "rule 'story'"),
        ({"story": [(1, "text"), (-1, "text")]}, {}, "rule 'story'"),
        ({"story": [(1, "text")]}, {"time": []}, "category 'time'"),
        ({"story": [(1, "text")]}, {"time": [(0, "dawn")]}, "category 'time'"),
    ],
)
def test_what_a_grammar_lacks_is_named(rules, categories, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Grammar(rules, categories)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{nobody}", "nobody"),
        ("{x=nobody}", "nobody"),
        ("{x:time-nobody}", "nobody"),
        ("{x:time@nobody}", "nobody"),
        ("[end@nobody]", "nobody"),
        ("{x:time.plural}", "plural"),
        ("{x:time}{x.plural}", "plural"),
    ],
)
def test_a_slot_that_nothing_fills_or_a_form_that_no_member_has_is_refused(template, name):
    rules = {"story": [(1, template)], "end@dawn": [(1, "")]}
    with pytest.raises(ValueError, match=name):
        Grammar(rules, {"time": [(1, "dawn")], "time@dawn": [(1, "early")]})
