"""Scene specifications and the sentences that describe them.

A `Spec` says what one training picture shows; `random_spec` draws one from a
`random.Random`, `caption` puts one into words. Pure Python on purpose.
"""

import random
from dataclasses import dataclass

from vocabulary import (
    COLOUR_SYNONYMS,
    COLOURS,
    OBJECTS,
    SCENES,
    STYLES,
    is_held_out,
)

PAIR_SHARE = 0.28
SMALL_SHARE = 0.12  # of single objects: small ones, anywhere near the middle
SCENE_SHARE = 0.20
FAVOURITE_SHARE = 0.01  # extra red apples on blue: the product's first prompt
SYNONYM_SHARE = 0.2
SMALL_WORDS = ("small", "small", "small", "tiny")
UNCOUNTED = frozenset({"grapes", "bananas", "cherries", "french fries", "fries", "chips", "corn", "coffee", "lightning"})

OBJECT_BY_NAME = {item.name: item for item in OBJECTS}


@dataclass(frozen=True)
class Spec:
    """What one picture shows.

    `second` is the right-hand object of a pair; `small` asks for a single
    object at about half the picture's side.
    """

    first: str
    style: str
    background: str
    second: str | None = None
    small: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (self.first,) if self.second is None else (self.first, self.second)

    @property
    def held_out(self) -> bool:
        """A pair counts as held out as soon as one of its objects is."""
        return any(is_held_out(name, self.style, self.background) for name in self.names)


def random_spec(rng: random.Random) -> Spec:
    """Draws a specification that training may show."""
    names = [item.name for item in OBJECTS]
    while True:
        style = rng.choice(list(STYLES))
        if rng.random() < FAVOURITE_SHARE:
            return Spec("red apple", style, "blue")
        background = rng.choice(list(SCENES if rng.random() < SCENE_SHARE else COLOURS))
        first = rng.choice(names)
        second = None
        if rng.random() < PAIR_SHARE:
            second = rng.choice([name for name in names if name != first])
        small = second is None and rng.random() < SMALL_SHARE
        spec = Spec(first, style, background, second, small)
        if not spec.held_out:
            return spec


def with_article(words: str) -> str:
    """Puts "a" or "an" before the words, except before what is not counted."""
    if words in UNCOUNTED:
        return words
    vowel_sound = words[0] in "aeio" or words.startswith(("umb", "hour"))
    return ("an " if vowel_sound else "a ") + words


def noun(rng: random.Random | None, name: str) -> str:
    """The object's name, or with an `rng` now and then one of its synonyms."""
    synonyms = OBJECT_BY_NAME[name].synonyms
    if rng is not None and synonyms and rng.random() < SYNONYM_SHARE * len(synonyms):
        return rng.choice(synonyms)
    return name


def subject_words(rng: random.Random | None, spec: Spec) -> str:
    nouns = [noun(rng, name) for name in spec.names]
    if spec.small:
        size = SMALL_WORDS[0] if rng is None else rng.choice(SMALL_WORDS)
        plural = nouns[0] in UNCOUNTED
        return f"{size} {nouns[0]}" if plural else with_article(f"{size} {nouns[0]}")
    return " and ".join(with_article(words) for words in nouns)


def background_words(rng: random.Random | None, background: str) -> str:
    """The phrase for a background; without an `rng` the usual one."""
    if background in SCENES:
        phrases = SCENES[background]
        return phrases[0] if rng is None or rng.random() < 0.6 else rng.choice(phrases[1:])
    colour = background
    if rng is not None and background in COLOUR_SYNONYMS and rng.random() < 0.25:
        colour = rng.choice(COLOUR_SYNONYMS[background])
    if rng is not None and rng.random() < 0.06:
        return f"with {with_article(colour)} background"
    return f"on {with_article(colour)} background"


def caption(rng: random.Random, spec: Spec) -> str:
    """One of several ways to put a specification into words."""
    subject = subject_words(rng, spec)
    where = background_words(rng, spec.background)
    style = spec.style
    roll = rng.random()
    if roll < 0.50:
        return f"{subject} {where}, {style} style"
    if roll < 0.68:
        return f"{subject}, {style} style, {where}"
    if roll < 0.80:
        kind = {"flat": "flat icon", "3d": "3d render", "cartoon": "cartoon"}[style]
        return f"{with_article(kind)} of {subject} {where}"
    if roll < 0.90:
        return f"{subject} {where}"
    if roll < 0.95:
        return subject
    return f"{subject}, {style} style"


def plain_caption(spec: Spec) -> str:
    """The standard sentence, used to judge the model."""
    return f"{subject_words(None, spec)} {background_words(None, spec.background)}, {spec.style} style"
