"""The built-in corpus: short stories in the manner of TinyStories, from a grammar whose every probability is known.

Because the grammar is ours and unambiguous, a story's probability is known exactly, and with it the lowest cross-entropy
that any model can reach on these texts: the floor under every loss curve.

What a sentence says depends on sentences long before it (who, where, what was lost, what was in the basket, which virtue
the story is about), so a model with a short memory cannot reach the floor.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from core.corpus.grammar import Grammar
from core.corpus.sampling import sample
from core.corpus.story_words import CATEGORIES
from core.files import atomic_path
from core.tokenizer.pretokenize import END_OF_TEXT

RULES: dict[str, list[tuple[int, str]]] = {
    "story": [
        (3, "[opening]\n[lost]\n[moral@trait]"),
        (2, "[opening]\n[present]\n[moral@trait]"),
        (2, "[opening]\n[contest]\n[moral@trait]"),
        (2, "[opening]\n[seed]\n[moral@trait]"),
        (2, "[opening]\n[stray]\n[moral@trait]"),
    ],
    "opening": [
        (3, "Once upon a time there was a {trait:trait} {hero:child.child} named {hero}. [likes]"),
        (2, "There once lived a {trait:trait} {hero:child.child} called {hero}. [likes]"),
        (1, "{hero:child} was a very {trait:trait} {hero.child}. [likes]"),
        (1, "In a {size:size} house by the road lived {hero:child}, a {trait:trait} {hero.child}. [likes]"),
    ],
    "likes": [
        (3, "{hero.They} loved {hobby:hobby}."),
        (2, "Every day {hero.they} liked {hobby:hobby} with {hero.their} friend {friend_hint:child-hero}."),
        (1, "More than anything {hero.they} loved {hobby:hobby}."),
    ],
    "outing": [
        (2, "One {weather:weather} day {hero} went to the {place:place}"),
        (1, "One {weather:weather} morning {hero} and {hero.their} {adult:grown_up} walked to the {place:place}"),
        (1, "It was a {weather:weather} day, so {hero} ran to the {place:place}"),
    ],
    # A toy is lost, somebody helps.
    "lost": [
        (
            1,
            "[outing] with {hero.their} {colour:colour} {toy:toy}. [accident] {hero} was {sad:feeling}. "
            "[asking] [rescue] [thanks]",
        ),
        (
            1,
            "[outing]. {hero.They} took {hero.their} {colour:colour} {toy:toy} along, and on the way {hero.they} saw "
            "{number:number} {sight:sight}. [accident] {hero} was {sad:feeling}. [asking] [rescue] [thanks] "
            "On the way home {hero.they} saw the {number} {sight} again.",
        ),
    ],
    "accident": [
        (2, "Suddenly the wind took the {toy} and [fell]."),
        (1, "{hero.They} played with the {toy} all morning, but then [fell]."),
        (1, "Oh no! {hero} tripped, and [fell]."),
    ],
    "fell": [
        (2, "it landed in the {trouble:trouble@place}"),
        (1, "it vanished into the {trouble:trouble@place}"),
        (1, "it got stuck in the {trouble:trouble@place}"),
    ],
    "asking": [
        (2, '{helper:helper@trouble.A} came by. "Why are you so {sad}, {hero}?" asked the {helper}. [answer]'),
        (1, "{hero.They} called for help, and {helper:helper@trouble.a} heard {hero.them}. [answer]"),
    ],
    "answer": [
        (2, '"My {colour} {toy} is in the {trouble}," said {hero}.'),
        (1, '"I lost my {toy} in the {trouble}," {hero.they} said. "It is {colour}."'),
        (1, '{hero} pointed at the {trouble}. "My {toy} is in there!"'),
    ],
    "rescue": [
        (3, "The {helper} {helper.deed} and brought the {colour} {toy} back."),
        (1, '"Do not worry," said the {helper}. It {helper.deed} and soon came back with the {toy}.'),
        (1, "First the {helper} could not find it. Then it {helper.deed}, and there was the {colour} {toy}!"),
    ],
    "thanks": [
        (2, '"Thank you, {helper}!" said {hero}, and {hero.they} was {joy:joy} again.'),
        (1, "{hero} hugged the {helper} and carried the {toy} home from the {place}."),
        (1, '"You are my friend now," said {hero} to the {helper}. Together they played with the {toy}.'),
    ],
    # A treat is made for somebody; one thing from the basket is missing.
    "present": [
        (
            1,
            "It was the {feast:feast} of {hero.their} {adult:grown_up}, and {hero} wanted to make {treat:treat} for "
            "{adult.them}. [shopping] [loss] [serving]",
        )
    ],
    "shopping": [
        (
            2,
            "At the market {hero.they} put {one:ingredient}, {two:ingredient-one} and {three:ingredient-one-two} in {hero.their} basket.",
        ),
        (1, '"I need {one:ingredient}, {two:ingredient-one} and {three:ingredient-one-two}," {hero.they} said.'),
    ],
    "loss": [
        (2, "But when {hero.they} came home, the [which] [gone]. [fetch]"),
        (
            1,
            "On the way {hero.they} met {friend:child-hero}, who was hungry, so {hero.they} gave the [which] away. [fetch]",
        ),
    ],
    "which": [(1, "{missing=one}"), (1, "{missing=two}"), (1, "{missing=three}")],
    "gone": [(1, "had been forgotten"), (1, "had fallen out of the basket")],
    "fetch": [
        (2, "{hero} ran all the way back for more {missing}."),
        (1, "A neighbour named {neighbour:child-hero} had some {missing} and was glad to share."),
    ],
    "serving": [
        (
            2,
            "Then {hero.they} mixed the {one}, the {two} and the {three}, and made {treat}. {adult.name} was {joy:joy}.",
        ),
        (
            1,
            'Soon {treat} stood on the table. "With {one}, {two} and {three}! It is the best ever," said {adult.name}.',
        ),
    ],
    # Two friends play, one wins, they make up.
    "contest": [
        (
            1,
            "One {weather:weather} day {hero} and {hero.their} friend {friend:child-hero} played {game:game} at the {place:place}. "
            '"The winner gets {prize:prize.a}," said {friend}. [result]',
        )
    ],
    "result": [
        (1, "They played {number:number} times, and {friend} won. {hero} felt {sad:feeling}. [upset] [sharing]"),
        (1, "They played {number:number} times, and {hero} won. {friend} felt {sad:feeling}. [gloat] [sharing]"),
    ],
    "upset": [
        (2, '"{number.N} times! That is not fair," said {hero}. But {friend} smiled at {hero.them}.'),
        (1, "{hero} did not want to play {game} any more, and {hero.they} sat down alone."),
    ],
    "gloat": [
        (2, '"I never win at {game}," said {friend}. {hero} thought about it for a while.'),
        (1, "{friend} walked away from the {place}, and {hero} ran after {friend.them}."),
    ],
    "sharing": [
        (
            2,
            '"Let us share the {prize}," said {sharer_of:sharer}. So both of them had the {prize}, and they played {game} again.',
        ),
        (1, "They gave the {prize} to a {size:size} child at the {place}, and {hero} and {friend} were {joy:joy}."),
    ],
    # A seed is planted and cared for.
    "seed": [
        (
            1,
            "{hero.Their} {adult:grown_up} gave {hero.them} {seed:seed.a}. {hero} planted the {seed} behind the house and watered it "
            "every day. For {number:number} days nothing happened. [doubt] [pest] [harvest]",
        )
    ],
    "doubt": [
        (2, '"It has been {number} days," said {hero}. "Wait a little longer," said {adult.name}.'),
        (1, "{hero} was {sad:feeling}, but {hero.they} went on watering."),
    ],
    "pest": [
        (1, "Then a green leaf came up. A {pest:pest} wanted to eat it, but {hero} [chased] the {pest}."),
        (1, "After {more:number} more days there was a small leaf."),
    ],
    "chased": [(1, "chased away"), (1, "gave an old carrot to"), (1, "talked kindly to")],
    "harvest": [
        (
            2,
            "In summer it was {seed.plant}, full of {seed.fruit}. {hero} brought some to {adult.name}, who was {joy:joy}.",
        ),
        (1, 'The {seed} had become {seed.plant}! "Look, {adult.name}, {seed.fruit}!" cried {hero}.'),
    ],
    # A young animal is lost and brought home.
    "stray": [
        (
            1,
            '[outing]. There {hero.they} heard a small voice. "{young:young.cry}! {young.cry}!" It was a {size:size} {colour:colour} '
            "{young}. It was {sad:feeling} because it could not find its mother. [search] [found]",
        )
    ],
    "search": [
        (
            2,
            '"I will help you, {size} {young}," said {hero}. They asked {asked:passer_by}, but nobody had seen a {young.mother}.',
        ),
        (1, "{hero} picked up the {young} and looked behind every tree at the {place}. There was no {young.mother}."),
    ],
    "found": [
        (
            2,
            'At last they came to {young.home}. There was the {young.mother}! "{young.cry}!" said the {colour} {young}, {joy:joy} to be home.',
        ),
        (
            1,
            "When the sun went down they found the {young.mother} at {young.home}. The {young} was {joy:joy}, and {hero} waved goodbye.",
        ),
    ],
    **{
        f"moral@{trait}": [(2, f"{{hero}} was {sign}, and that is why it all ended well."), (1, lesson)]
        for trait, sign, lesson in (
            ("kind", "kind to everyone", "From then on {hero} knew that kindness comes back."),
            ("brave", "brave that day", "{hero.They} had been afraid, but being brave means going on."),
            ("curious", "curious about everything", "And {hero} never stopped asking questions."),
            ("patient", "patient to the end", "Good things take time, and {hero} could wait."),
            ("shy", "not so shy any more", "{hero} had learned to speak up, even in a quiet voice."),
            ("clever", "clever enough to ask for help", "A clever {hero.child} knows when to ask, thought {hero}."),
            ("cheerful", "cheerful from morning to night", "{hero} sang all the way home."),
            ("stubborn", "stubborn and did not give up", "Sometimes it is good to be stubborn, said {hero}."),
            ("careful", "careful with everything", "{hero} always looked twice before a step."),
        )
    },
}

FEELINGS = {
    "feeling": [(3, "sad"), (1, "upset"), (1, "worried"), (1, "unhappy")],
    "joy": [(3, "happy"), (1, "glad"), (1, "proud"), (1, "full of joy")],
    "sharer": [(2, "both at once"), (1, "one of them"), (1, "a friend who watched")],
    "passer_by": [(2, "a farmer"), (1, "an old man"), (1, "two children"), (1, "the baker")],
}

GRAMMAR = Grammar(RULES, {**CATEGORIES, **FEELINGS})

BLOCK_STORIES = 8192
"""Stories drawn together: each block has a random stream of its own, so block n does not depend on how many precede it."""


def story_block(seed: int, block: int) -> tuple[list[str], np.ndarray]:
    """The n-th block of stories of a seed, with the log-probability of each."""
    return sample(GRAMMAR, BLOCK_STORIES, np.random.default_rng([seed, block]))


def write_stories(
    path: str | os.PathLike[str],
    num_bytes: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write stories, each followed by the end marker, until the file has at least `num_bytes`.

    Args:
        path: Text file to write; a function of `num_bytes` and `seed` alone.
        num_bytes: Size at which to stop, at the end of a story.
        seed: Other seeds give other stories.
        progress: Called with the bytes written so far.

    Raises:
        ValueError: If `num_bytes` is not positive.
    """
    if num_bytes < 1:
        raise ValueError(f"num_bytes is {num_bytes}: it must be positive")
    written = block = 0
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        while written < num_bytes:
            stories, _ = story_block(seed, block)
            data = "".join([story + END_OF_TEXT for story in stories]).encode()
            if written + len(data) > num_bytes:
                end = data.find(END_OF_TEXT.encode(), max(0, num_bytes - written - len(END_OF_TEXT)))
                data = data[: end + len(END_OF_TEXT)]
            file.write(data)
            written += len(data)
            block += 1
            if progress is not None:
                progress(written)
    return Path(path)


def grammar_id() -> str:
    """SHA-256 of rules and words: texts of equal ids come from the same distribution and the same seeds."""
    content = json.dumps([RULES, CATEGORIES, FEELINGS, BLOCK_STORIES], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def floor_nats(stories: Iterable[str]) -> list[float]:
    """The exact negative log-probability of each story, its end marker included, in nats.

    A model's expected loss on stories of this grammar cannot be lower than the mean of these (Gibbs' inequality).

    Raises:
        ValueError: If a text is not a story of this grammar.
    """
    return [-GRAMMAR.log_probability(story) for story in stories]
