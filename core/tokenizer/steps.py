"""Training and encoding one merge at a time, as on a blackboard: for texts that a person reads."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Pair = tuple[bytes, bytes]
Pieces = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """What the trainer sees before a merge."""

    words: list[tuple[Pieces, int]]
    """Each distinct pre-token as it is cut now, and how often it occurs."""
    pairs: list[tuple[Pair, int]]
    """Adjacent pairs with their counts in the order in which they are preferred: the first is merged next."""

    @property
    def tied(self) -> int:
        """How many pairs occur as often as the one that is merged next."""
        return sum(count == self.pairs[0][1] for _, count in self.pairs)


@dataclass(frozen=True, slots=True)
class EncodingStep:
    """A pre-token on its way to tokens."""

    pieces: Pieces
    ranks: dict[int, int]
    """Which of its adjacent pairs may merge: the place of the left piece, and the merge's rank."""

    @property
    def place(self) -> int | None:
        """The left piece of the pair that merges next; None when no merge applies any more."""
        return min(self.ranks, key=lambda place: (self.ranks[place], place), default=None)


def training_steps(counts: Mapping[str, int], num_merges: int) -> list[TrainingStep]:
    """Train byte-pair encoding, and keep what was seen before each merge and after the last.

    Every step counts all pairs anew.

    Args:
        counts: How often each pre-token occurs.
        num_merges: At most so many; fewer where no pair is left.
    """
    words = [(tuple(bytes([value]) for value in word.encode()), count) for word, count in counts.items()]
    steps = []
    while True:
        pairs: Counter[Pair] = Counter()
        for pieces, count in words:
            for pair in pairwise(pieces):
                pairs[pair] += count
        preferred = sorted(pairs.items(), key=lambda item: (item[1], item[0]), reverse=True)
        steps.append(TrainingStep(words, preferred))
        if len(steps) > num_merges or not preferred:
            return steps
        words = [(_merge_all(pieces, preferred[0][0]), count) for pieces, count in words]


def encoding_steps(pre_token: bytes, ranks: Mapping[Pair, int]) -> list[EncodingStep]:
    """How a pre-token becomes tokens: one merge a step, the lowest rank first, the leftmost of equal ones.

    Args:
        pre_token: A short one: every step looks at all of it.
        ranks: As `pair_ranks` gives them.

    Returns:
        The state before each merge, and the last one, in which none applies.
    """
    pieces: Pieces = tuple(bytes([value]) for value in pre_token)
    steps = []
    while True:
        found = {place: ranks[pair] for place, pair in enumerate(pairwise(pieces)) if pair in ranks}
        steps.append(EncodingStep(pieces, found))
        place = steps[-1].place
        if place is None:
            return steps
        pieces = (*pieces[:place], pieces[place] + pieces[place + 1], *pieces[place + 2 :])


def pair_ranks(merges: Iterable[Pair]) -> dict[Pair, int]:
    """Each pair's place in the order of merges; of repeated ones the first counts."""
    ranks: dict[Pair, int] = {}
    for rank, pair in enumerate(merges):
        ranks.setdefault(pair, rank)
    return ranks


def pair_places(pieces: Pieces, pair: Pair) -> list[int]:
    """The places of the pieces that a merge joins, found from left to right: left, right, left, right.

    >>> pair_places((b"a", b"a", b"a", b"b"), (b"a", b"a"))
    [0, 1]
    """
    places: list[int] = []
    for place in range(len(pieces) - 1):
        if pieces[place : place + 2] == pair and place not in places[-1:]:
            places += [place, place + 1]
    return places


def word_rows(step: TrainingStep) -> list[dict[str, Any]]:
    """For a figure: every word's pieces, the places of those that merge next, how often the word occurs."""
    return [
        {"pieces": pieces, "places": pair_places(pieces, step.pairs[0][0]) if step.pairs else [], "told": f"× {count}"}
        for pieces, count in step.words
    ]


def pair_rows(step: TrainingStep, limit: int) -> list[dict[str, Any]]:
    """For a figure: the pairs preferred most, their counts, and why the first is before the others."""
    rows = []
    for place, (pair, count) in enumerate(step.pairs[:limit]):
        note = "merged next" if place == 0 else "as often, but smaller bytes" if count == step.pairs[0][1] else ""
        rows.append({"pair": pair, "count": count, "next": place == 0, "note": note})
    return rows


def made_rows(steps: Sequence[TrainingStep]) -> list[dict[str, Any]]:
    """For a figure: the token that each of these steps makes, what of, and how often that occurred."""
    ids = {bytes([value]): value for value in range(256)}
    rows = []
    for rank, step in enumerate(steps):
        pair, count = step.pairs[0]
        token = b"".join(pair)
        ids.setdefault(token, 256 + rank)
        parts = [{"id": ids[piece], "token": piece} for piece in (token, *pair)]
        rows.append({"number": rank + 1, "token": parts[:1], "pair": parts[1:], "count": count})
    return rows


def encoding_rows(steps: Iterable[EncodingStep]) -> list[dict[str, Any]]:
    """For a figure: the pieces before each step, the places of those that merge, and which merges must wait."""
    rows = []
    for step in steps:
        place = step.place
        if place is None:
            rows.append({"pieces": step.pieces, "places": [], "told": "no merge is left"})
            continue
        waiting = [f"{rank + 1:,}" for at, rank in sorted(step.ranks.items(), key=lambda item: item[1]) if at != place]
        verb = "waits" if len(waiting) == 1 else "wait"
        after = f"; {', '.join(waiting[:2])}{' …' * (len(waiting) > 2)} {verb}" if waiting else ""
        told = f"merge {step.ranks[place] + 1:,} next{after}"
        rows.append({"pieces": step.pieces, "places": [place, place + 1], "told": told})
    return rows


def _merge_all(pieces: Pieces, pair: Pair) -> Pieces:
    joined = pair_places(pieces, pair)
    lefts, rights = set(joined[::2]), set(joined[1::2])
    return tuple(
        piece + pieces[place + 1] if place in lefts else piece
        for place, piece in enumerate(pieces)
        if place not in rights
    )
