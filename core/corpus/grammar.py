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
        for kind, table in (("rule", self.rules), ("category", self.categories)):
            for name, choices in table.items():
                if not choices or any(weight < 1 for weight, _ in choices):
                    raise ValueError(f"{kind} {name!r}: it needs choices, each with a weight of at least 1")
        if "story" not in self.rules:
            raise ValueError("the grammar has no rule 'story', where every text starts")
        families = {name.split("@")[0] for name in (*self.rules, *self.categories)}
        for name, choices in self.rules.items():
            for _, signs in choices:
                for sign in signs:
                    if isinstance(sign, Expand | Draw):
                        table, target = (
                            (self.rules, sign.rule) if isinstance(sign, Expand) else (self.categories, sign.category)
                        )
                        if target not in (families if sign.given else table):
                            raise ValueError(f"rule {name!r} names {target!r}, which does not exist")

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
            while signs is not None:
                sign, rest = signs
                if isinstance(sign, Text | Write | Same):
                    if isinstance(sign, Text):
                        written = sign.text
                    elif isinstance(sign, Write):
                        written = self._form(slots[sign.slot], sign.form)
                    else:
                        slots = {**slots, sign.slot: slots[sign.other]}
                        written = self._form(slots[sign.slot], sign.form)
                    if not text.startswith(written, place):
                        break
                    signs, place = rest, place + len(written)
                    furthest = max(furthest, place)
                elif isinstance(sign, Draw):
                    for weight, total, member in self._draw_choices(sign, slots):
                        written = self._form(member, sign.form)
                        if text.startswith(written, place):
                            state = {**slots, sign.slot: member}
                            stack.append((rest, place + len(written), state, log_p + math.log(weight / total)))
                    break
                else:
                    choices = self.rules[self._name(sign.rule, sign.given, slots)]
                    total = sum(weight for weight, _ in choices)
                    for weight, template in choices:
                        after = rest
                        for inner in reversed(template):
                            after = (inner, after)
                        stack.append((after, place, slots, log_p + math.log(weight / total)))
                    break
            else:
                if place == len(text):
                    found.append(log_p)
        if not found:
            raise ValueError(
                f"not a text of this grammar: it can be followed up to character {furthest}, "
                f"before {text[furthest : furthest + 30]!r}"
            )
        return found

    def enumerate(self) -> Iterator[tuple[str, Fraction]]:
        """Every derivation's text with its exact probability; only for small grammars without recursion."""
        yield from self._enumerate((Expand("story", ""), None), "", {}, Fraction(1))

    def _enumerate(self, signs: tuple | None, text: str, slots: dict, p: Fraction) -> Iterator[tuple[str, Fraction]]:
        if signs is None:
            yield text, p
            return
        sign, rest = signs
        if isinstance(sign, Text):
            yield from self._enumerate(rest, text + sign.text, slots, p)
        elif isinstance(sign, Write):
            yield from self._enumerate(rest, text + self._form(slots[sign.slot], sign.form), slots, p)
        elif isinstance(sign, Same):
            slots = {**slots, sign.slot: slots[sign.other]}
            yield from self._enumerate(rest, text + self._form(slots[sign.slot], sign.form), slots, p)
        elif isinstance(sign, Draw):
            for weight, total, member in self._draw_choices(sign, slots):
                state = {**slots, sign.slot: member}
                yield from self._enumerate(
                    rest, text + self._form(member, sign.form), state, p * Fraction(weight, total)
                )
        else:
            choices = self.rules[self._name(sign.rule, sign.given, slots)]
            total = sum(weight for weight, _ in choices)
            for weight, template in choices:
                after = rest
                for inner in reversed(template):
                    after = (inner, after)
                yield from self._enumerate(after, text, slots, p * Fraction(weight, total))

    def _form(self, member: int, form: str) -> str:
        return self.members[member][form]

    def _name(self, name: str, given: str, slots: Mapping[str, int]) -> str:
        return f"{name}@{self.members[slots[given]]['']}" if given else name

    def _draw_choices(self, sign: Draw, slots: Mapping[str, int]) -> list[tuple[int, int, int]]:
        """(weight, total weight, member) of what may be drawn."""
        excluded = {slots[slot] for slot in sign.excluded}
        category = self.categories[self._name(sign.category, sign.given, slots)]
        allowed = [(weight, member) for weight, member in category if member not in excluded]
        total = sum(weight for weight, _ in allowed)
        return [(weight, total, member) for weight, member in allowed]


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
