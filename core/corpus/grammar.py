"""Probabilistic grammars with memory, and the exact probability of every text they write.

A *rule* is a choice between weighted templates. Templates are text with these signs in it:

    [rule]                 expand another rule
    [rule@slot]            expand the rule named `rule@X`, X being the text of what the slot remembers
    {slot:category}        draw a member of a category, remember it in the slot, write its text
    {slot:category@other}  draw from the category named `category@X`, X being the text of what `other` remembers
    {slot:category-other}  draw anything but what another slot remembers (several may be named: -one-two)
    {slot=other}           remember in this slot what another one remembers, and write it
    {slot}                 write again what is remembered: the reason why context helps

A member may have several forms (a pronoun, a plural): `{slot.form}` writes that one, in every sign above.

What was drawn early decides what is written late, so the process is not Markov in the text; but as long as the grammar
is unambiguous each text has exactly one derivation, and its probability is the product of the choices made. The parser
does not rely on that: it finds every derivation and adds them up. The tests assert that there is only one.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import regex

Member = str | Mapping[str, str]
"""A text, or its forms by name; the form named "" is the text itself."""


@dataclass(frozen=True, slots=True)
class Text:
    """Words as they stand."""

    text: str


@dataclass(frozen=True, slots=True)
class Write:
    """`{slot}`."""

    slot: str
    form: str


@dataclass(frozen=True, slots=True)
class Same:
    """`{slot=other}`."""

    slot: str
    other: str
    form: str


@dataclass(frozen=True, slots=True)
class Draw:
    """`{slot:category}`, perhaps `@given`, perhaps `-excluded`."""

    slot: str
    category: str
    given: str
    excluded: tuple[str, ...]
    form: str


@dataclass(frozen=True, slots=True)
class Expand:
    """`[rule]`, perhaps `@given`."""

    rule: str
    given: str


Sign = Text | Write | Same | Draw | Expand

_SIGN = regex.compile(
    r"\[(?P<rule>\w+)(?:@(?P<rule_given>\w+))?\]"
    r"|\{(?P<slot>\w+)(?:=(?P<other>\w+)|:(?P<category>\w+)(?:@(?P<given>\w+))?(?:-(?P<excluded>\w+))*)?"
    r"(?:\.(?P<form>\w+))?\}"
)


class Grammar:
    """One set of rules and categories: the probability of a text, and the list of all texts.

    `core.corpus.sampling.sample` draws from it.

    Args:
        rules: For each rule its templates with integer weights; `story` is where every text starts.
        categories: For each category its members with integer weights.

    Raises:
        ValueError: For a sign that is malformed or names what does not exist.
    """

    def __init__(
        self,
        rules: Mapping[str, Sequence[tuple[int, str]]],
        categories: Mapping[str, Sequence[tuple[int, Member]]],
    ) -> None:
        members: dict[tuple[tuple[str, str], ...], int] = {}
        self.members: list[dict[str, str]] = []

        def member_number(member: Member) -> int:
            forms = {"": member} if isinstance(member, str) else dict(member)
            key = tuple(sorted(forms.items()))
            if key not in members:
                members[key] = len(self.members)
                self.members.append(forms)
            return members[key]

        self.categories = {
            name: [(weight, member_number(member)) for weight, member in choices]
            for name, choices in categories.items()
        }
        self.rules = {
            name: [(weight, _signs(template)) for weight, template in choices] for name, choices in rules.items()
        }
        self._check()

    def _check(self) -> None:
        """Everything that a sign names must exist; what a slot may remember must have the forms that are written."""
        for kind, table in (("rule", self.rules), ("category", self.categories)):
            for name, choices in table.items():
                if not choices or any(weight < 1 for weight, _ in choices):
                    raise ValueError(f"{kind} {name!r}: it needs choices, each with a weight of at least 1")
        if "story" not in self.rules:
            raise ValueError("the grammar has no rule 'story', where every text starts")
        signs = [(name, sign) for name, choices in self.rules.items() for _, template in choices for sign in template]

        remembered: dict[str, set[int]] = {}
        for name, sign in signs:
            if isinstance(sign, Draw):
                drawn = self._family(self.categories, sign.category, sign.given, name)
                remembered.setdefault(sign.slot, set()).update(member for choices in drawn for _, member in choices)
            elif isinstance(sign, Expand):
                self._family(self.rules, sign.rule, sign.given, name)
        for _ in signs:  # a slot may be filled from one that is filled from another, and so on
            for _, sign in signs:
                if isinstance(sign, Same):
                    remembered.setdefault(sign.slot, set()).update(remembered.get(sign.other, ()))

        for name, sign in signs:
            for slot in _slots_read(sign):
                if not remembered.get(slot):
                    raise ValueError(f"rule {name!r} reads the slot {slot!r}, which nothing fills")
            if isinstance(sign, Write | Same | Draw):
                for member in remembered[sign.slot]:
                    if sign.form not in self.members[member]:
                        text = self.members[member].get("", "")
                        raise ValueError(f"rule {name!r} writes the form {sign.form!r}, which {text!r} has not")

    def _family(self, table: Mapping[str, list], base: str, given: str, rule: str) -> list[list]:
        """The entries of a table that a sign may lead to: one, or with `@` all of that family."""
        names = [name for name in table if name.startswith(f"{base}@")] if given else [base] if base in table else []
        if not names:
            raise ValueError(f"rule {rule!r} names {base!r}, which does not exist")
        return [table[name] for name in names]

    def log_probability(self, text: str) -> float:
        """Natural logarithm of the probability that the grammar writes exactly this text.

        Raises:
            ValueError: If the grammar cannot write it; the message names how far it could follow.
        """
        derivations = self.derivations(text)
        largest = max(derivations)
        return largest + math.log(math.fsum(math.exp(value - largest) for value in derivations))

    def derivations(self, text: str) -> list[float]:
        """The log-probability of each way to derive a text: one number where the grammar is unambiguous.

        Raises:
            ValueError: If there is none.
        """
        found: list[float] = []
        furthest = 0
        # A state: signs still to match as a linked list, place in the text, what each slot remembers, log-probability.
        stack: list[tuple] = [((Expand("story", ""), None), 0, {}, 0.0)]
        while stack:
            signs, place, slots, log_p = stack.pop()
            if signs is None:
                if place == len(text):
                    found.append(log_p)
                continue
            for written, after, memory, weight, total in self._continuations(signs, slots):
                if text.startswith(written, place):
                    end = place + len(written)
                    furthest = max(furthest, end)
                    stack.append((after, end, memory, log_p if weight == total else log_p + math.log(weight / total)))
        if not found:
            raise ValueError(
                f"not a text of this grammar: it can be followed up to character {furthest}, "
                f"before {text[furthest : furthest + 30]!r}"
            )
        return found

    def enumerate(self) -> Iterator[tuple[str, Fraction]]:
        """Every derivation's text with its exact probability; only for small grammars without recursion."""
        stack: list[tuple] = [((Expand("story", ""), None), "", {}, Fraction(1))]
        while stack:
            signs, text, slots, p = stack.pop()
            if signs is None:
                yield text, p
                continue
            for written, after, memory, weight, total in self._continuations(signs, slots):
                stack.append((after, text + written, memory, p * Fraction(weight, total)))

    def _continuations(
        self, signs: tuple, slots: dict[str, int]
    ) -> Iterator[tuple[str, tuple, dict[str, int], int, int]]:
        """The ways to carry out the first of a linked list of signs.

        Yields:
            What is written, the signs that follow, what the slots remember then, and the way's weight of a total.
        """
        sign, rest = signs
        match sign:
            case Text(text):
                yield text, rest, slots, 1, 1
            case Write(slot, form):
                yield self.members[self.recall(slots, slot)][form], rest, slots, 1, 1
            case Same(slot, other, form):
                member = self.recall(slots, other)
                yield self.members[member][form], rest, {**slots, slot: member}, 1, 1
            case Draw(slot, category, given, excluded, form):
                barred = {self.recall(slots, name) for name in excluded}
                choices = self.choices(self.categories, category, self.recall(slots, given) if given else None)
                allowed = [(weight, member) for weight, member in choices if member not in barred]
                if not allowed:
                    raise ValueError(f"nothing is left to draw for {slot!r}: {', '.join(excluded)} exclude everything")
                total = sum(weight for weight, _ in allowed)
                for weight, member in allowed:
                    yield self.members[member][form], rest, {**slots, slot: member}, weight, total
            case Expand(rule, given):
                choices = self.choices(self.rules, rule, self.recall(slots, given) if given else None)
                total = sum(weight for weight, _ in choices)
                for weight, template in choices:
                    after = rest
                    for inner in reversed(template):
                        after = (inner, after)
                    yield "", after, slots, weight, total

    def recall(self, slots: Mapping[str, int], slot: str) -> int:
        """The member that a slot remembers.

        Raises:
            ValueError: If on this path nothing has been drawn into it.
        """
        if slots.get(slot, -1) < 0:
            raise ValueError(f"the slot {slot!r} is read before anything was drawn into it")
        return slots[slot]

    def choices(self, table: Mapping[str, list], base: str, given: int | None) -> list[tuple[int, Any]]:
        """A rule's or category's choices; with a `given` member those of `base@X`, X being its text.

        Raises:
            ValueError: If there is no such rule or category.
        """
        name = base if given is None else f"{base}@{self.members[given]['']}"
        if name not in table:
            raise ValueError(f"there is no rule or category {name!r}")
        return table[name]


def _signs(template: str) -> tuple[Sign, ...]:
    """Read a template."""
    signs: list[Sign] = []
    place = 0
    for match in _SIGN.finditer(template):
        if match.start() > place:
            signs.append(Text(template[place : match.start()]))
        place = match.end()
        form = match["form"] or ""
        if match["rule"]:
            signs.append(Expand(match["rule"], match["rule_given"] or ""))
        elif match["other"]:
            signs.append(Same(match["slot"], match["other"], form))
        elif match["category"]:
            excluded = tuple(match.captures("excluded"))
            signs.append(Draw(match["slot"], match["category"], match["given"] or "", excluded, form))
        else:
            signs.append(Write(match["slot"], form))
    signs.append(Text(template[place:]))
    for sign in signs:
        if isinstance(sign, Text) and regex.search(r"[\[\]{}]", sign.text):
            raise ValueError(f"template {template!r}: a sign that cannot be read is left in {sign.text!r}")
    return tuple(sign for sign in signs if sign != Text(""))


def _slots_read(sign: Sign) -> tuple[str, ...]:
    """The slots that must be filled when a sign is carried out."""
    match sign:
        case Write(slot, _):
            return (slot,)
        case Same(_, other, _):
            return (other,)
        case Draw(_, _, given, excluded, _):
            return (*excluded, given) if given else excluded
        case Expand(_, given) if given:
            return (given,)
    return ()
