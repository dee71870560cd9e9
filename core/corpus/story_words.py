"""The words of the built-in stories: who may appear, where, with what, and how likely each is."""

from core.corpus.grammar import Member


def _weighted(words: str) -> list[tuple[int, str]]:
    """Words separated by commas, the first ones likelier, as words in real text are."""
    listed = [word.strip() for word in words.split(",")]
    return [(3 if place < len(listed) // 3 else 1, word) for place, word in enumerate(listed)]


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _children(girls: str, boys: str) -> list[tuple[int, Member]]:
    she = {"child": "girl", "they": "she", "They": "She", "them": "her", "their": "her", "Their": "Her"}
    he = {"child": "boy", "they": "he", "They": "He", "them": "him", "their": "his", "Their": "His"}
    return [
        (weight, {"": name, **forms})
        for names, forms in ((girls, she), (boys, he))
        for weight, name in _weighted(names)
    ]


def _things(nouns: str) -> list[tuple[int, Member]]:
    return [(weight, {"": noun, "a": _article(noun)}) for weight, noun in _weighted(nouns)]


def _animals(*animals: tuple[str, str]) -> list[tuple[int, Member]]:
    """Animals with what each does to help: the deed is fixed by the animal, however much later it is told."""
    return [
        (1, {"": name, "a": _article(name), "A": _article(name).capitalize(), "deed": deed}) for name, deed in animals
    ]


CATEGORIES: dict[str, list[tuple[int, Member]]] = {
    "child": _children(
        "Lily, Mia, Anna, Sara, Emma, Lucy, Rosa, Zoe, Nina, Ella, Ruby, Amy",
        "Tom, Ben, Max, Sam, Tim, Jack, Leo, Finn, Oscar, Noah, Adam, Paul",
    ),
    "grown_up": [
        (3, {"": "mother", "name": "Mom", "They": "She", "they": "she", "them": "her"}),
        (2, {"": "father", "name": "Dad", "They": "He", "they": "he", "them": "him"}),
        (2, {"": "grandmother", "name": "Grandma", "They": "She", "they": "she", "them": "her"}),
        (1, {"": "grandfather", "name": "Grandpa", "They": "He", "they": "he", "them": "him"}),
    ],
    "trait": _weighted("kind, brave, curious, patient, shy, clever, cheerful, stubborn, careful"),
    "hobby": _weighted(
        "to draw, to sing, to climb trees, to read books, to count the stars, to build towers, to dance"
    ),
    "colour": _weighted("red, blue, green, yellow, white, purple, orange, silver"),
    "size": _weighted("little, big, tiny, huge"),
    "toy": _things("ball, kite, doll, drum, boat, hat, puppet, ring, whistle, umbrella"),
    "weather": _weighted("sunny, warm, windy, cold, cloudy, bright"),
    "place": _weighted("park, forest, garden, beach, farm, river, hill, market"),
    # What can go wrong depends on the place, who can help on what went wrong.
    "trouble@park": [(2, "tree"), (2, "pond"), (1, "hole")],
    "trouble@forest": [(3, "tree"), (1, "pond"), (2, "hole")],
    "trouble@garden": [(1, "tree"), (1, "pond"), (3, "hole")],
    "trouble@beach": [(4, "sea"), (1, "hole")],
    "trouble@farm": [(2, "tree"), (2, "well"), (1, "hole")],
    "trouble@river": [(5, "river"), (1, "tree")],
    "trouble@hill": [(2, "tree"), (2, "hole"), (1, "well")],
    "trouble@market": [(3, "well"), (1, "tree")],
    "helper@tree": _animals(
        ("bird", "flew up to the top"),
        ("squirrel", "ran up the trunk"),
        ("monkey", "swung from branch to branch"),
        ("cat", "climbed up without a sound"),
    ),
    "helper@pond": _animals(("duck", "swam out to the middle"), ("frog", "jumped from leaf to leaf")),
    "helper@sea": _animals(("dolphin", "dived under the waves"), ("seal", "swam far out"), ("gull", "flew low")),
    "helper@river": _animals(("otter", "swam against the water"), ("beaver", "built a small dam"), ("fish", "dived")),
    "helper@hole": _animals(
        ("mole", "dug a long tunnel"), ("rabbit", "hopped down into the dark"), ("mouse", "crept in")
    ),
    "helper@well": _animals(("bat", "flew down into the dark"), ("frog", "climbed down the wet stones")),
    "ingredient": _weighted("eggs, milk, flour, honey, apples, nuts, butter, berries, carrots, sugar, cheese, plums"),
    "treat": _weighted("a cake, a pie, some soup, some bread, some cookies, a pudding"),
    "feast": _weighted("birthday, first day at work, homecoming, wedding day"),
    "game": _weighted("hide and seek, tag, chess, football, marbles, cards"),
    "prize": _things("medal, cookie, star, flower, book, apple"),
    "seed": [
        (2, {"": "apple seed", "a": "an apple seed", "plant": "an apple tree", "fruit": "sweet apples"}),
        (1, {"": "plum stone", "a": "a plum stone", "plant": "a plum tree", "fruit": "ripe plums"}),
        (2, {"": "pumpkin seed", "a": "a pumpkin seed", "plant": "a pumpkin plant", "fruit": "round pumpkins"}),
        (2, {"": "bean", "a": "a bean", "plant": "a bean plant", "fruit": "long beans"}),
        (1, {"": "sunflower seed", "a": "a sunflower seed", "plant": "a sunflower", "fruit": "golden flowers"}),
    ],
    "pest": _weighted("snail, crow, goat, rabbit, beetle"),
    "number": [
        (weight, {"": word, "N": word.capitalize()}) for weight, word in _weighted("two, three, four, five, six")
    ],
    "sight": _weighted("white geese, red foxes, old boats, tall flowers, small clouds, brown cows, round stones"),
    # A lost animal: where its home is, and what its mother is called, follow from what it is.
    "young": [
        (2, {"": "duckling", "a": "a duckling", "mother": "duck", "home": "the pond", "cry": "Quack"}),
        (2, {"": "kitten", "a": "a kitten", "mother": "cat", "home": "the old barn", "cry": "Meow"}),
        (2, {"": "puppy", "a": "a puppy", "mother": "dog", "home": "the red house", "cry": "Woof"}),
        (1, {"": "lamb", "a": "a lamb", "mother": "sheep", "home": "the green meadow", "cry": "Baa"}),
        (1, {"": "chick", "a": "a chick", "mother": "hen", "home": "the henhouse", "cry": "Peep"}),
        (1, {"": "owlet", "a": "an owlet", "mother": "owl", "home": "the hollow oak", "cry": "Hoo"}),
    ],
}
