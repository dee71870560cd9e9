"""Drawing texts from a grammar, thousands at a time.

Every sign is carried out for all texts that have reached it at once: a text then costs a few array look-ups a sign.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from core.corpus.grammar import Draw, Expand, Grammar, Same, Sign, Text, Write


def sample(grammar: Grammar, count: int, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Draw texts.

    Args:
        grammar: What to draw from.
        count: How many texts; may be 0.
        rng: Only `rng.random` is used, whose stream is stable from one NumPy release to the next.

    Returns:
        The texts, and the log-probability of each (of its derivation: of the text where the grammar is unambiguous).
    """
    sampler = _Sampler(grammar, count, rng)
    if count:
        sampler.carry_out(Expand("story", ""), np.arange(count))
    return sampler.texts(), sampler.log_p


class _Sampler:
    """Texts under construction, a row each: pieces in order, what the slots remember, log-probability so far."""

    def __init__(self, grammar: Grammar, count: int, rng: np.random.Generator) -> None:
        self.grammar = grammar
        self.rng = rng
        self.log_p = np.zeros(count)
        self._slots: dict[str, np.ndarray] = {}
        self._forms: dict[str, np.ndarray] = {}
        self._pieces = np.full((count, 128), "", dtype=object)
        self._filled = np.zeros(count, dtype=np.int64)

    def texts(self) -> list[str]:
        return ["".join(row) for row in self._pieces[:, : self._filled.max(initial=0)].tolist()]

    def carry_out(self, sign: Sign, rows: np.ndarray) -> None:
        match sign:
            case Text(text):
                self._append(rows, text)
            case Write(slot, form):
                self._append(rows, self._form(form)[self._recall(slot, rows)])
            case Same(slot, other, form):
                self._remember(slot, rows, self._recall(other, rows), form)
            case Expand(rule, given):
                for choices, group in self._by_given(self.grammar.rules, rule, given, rows):
                    picks = self._choose(np.array([weight for weight, _ in choices]), group)
                    for pick, (_, template) in enumerate(choices):
                        chosen = group[picks == pick]
                        if chosen.size:
                            for inner in template:
                                self.carry_out(inner, chosen)
            case Draw(slot, category, given, excluded, form):
                for choices, group in self._by_given(self.grammar.categories, category, given, rows):
                    self._remember(slot, group, self._draw(choices, excluded, group), form)

    def _append(self, rows: np.ndarray, pieces: str | np.ndarray) -> None:
        filled = self._filled[rows]
        if filled.max() == self._pieces.shape[1]:
            self._pieces = np.concatenate([self._pieces, np.full_like(self._pieces, "")], axis=1)
        self._pieces[rows, filled] = pieces
        self._filled[rows] = filled + 1

    def _remember(self, slot: str, rows: np.ndarray, members: np.ndarray, form: str) -> None:
        self._slots.setdefault(slot, np.full(self._filled.size, -1))[rows] = members
        self._append(rows, self._form(form)[members])

    def _form(self, form: str) -> np.ndarray:
        """The given form of every member of the grammar, by the member's number."""
        if form not in self._forms:
            self._forms[form] = np.array([forms.get(form) for forms in self.grammar.members], dtype=object)
        return self._forms[form]

    def _recall(self, slot: str, rows: np.ndarray) -> np.ndarray:
        """What a slot remembers; ValueError if on the way to these rows nothing was drawn into it."""
        members = self._slots[slot][rows] if slot in self._slots else np.full(rows.size, -1)
        self.grammar.recall({slot: int(members.min())}, slot)
        return members

    def _by_given(
        self, table: Mapping[str, list], base: str, given: str, rows: np.ndarray
    ) -> Iterator[tuple[list, np.ndarray]]:
        """Rows grouped by the rule or category that an `@` leads them to."""
        if not given:
            yield self.grammar.choices(table, base, None), rows
            return
        members = self._recall(given, rows)
        for member in np.unique(members):
            yield self.grammar.choices(table, base, member), rows[members == member]

    def _draw(self, choices: list[tuple[int, int]], excluded: Sequence[str], rows: np.ndarray) -> np.ndarray:
        """A member for each row; rows that exclude the same members are drawn together."""
        weights, numbers = (np.array(column) for column in zip(*choices, strict=True))
        if not excluded:
            return numbers[self._choose(weights, rows)]
        drawn = np.empty(rows.size, dtype=np.int64)
        barred = np.stack([self._recall(slot, rows) for slot in excluded], axis=1)
        groups, which = np.unique(barred, axis=0, return_inverse=True)
        for number, group in enumerate(groups):
            here = which.ravel() == number
            allowed = weights * (numbers[:, None] != group).all(axis=1)
            if not allowed.any():
                raise ValueError(f"nothing is left to draw: {', '.join(excluded)} exclude every member of a category")
            drawn[here] = numbers[self._choose(allowed, rows[here])]
        return drawn

    def _choose(self, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """An index for each row, with probability proportional to its weight."""
        if np.count_nonzero(weights) == 1:
            return np.full(rows.size, np.flatnonzero(weights)[0])
        picks = np.searchsorted(np.cumsum(weights), self.rng.random(rows.size) * weights.sum(), side="right")
        self.log_p[rows] += np.log(weights[picks] / weights.sum())
        return picks
