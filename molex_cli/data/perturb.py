"""Texts with mistakes in them, for tests of robustness; no torch."""

import dataclasses
import random
import string
from collections.abc import Callable

from molex_cli.data.reading import Split
from molex_cli.errors import ConfigError

LETTERS = string.ascii_lowercase


def perturbed(split: Split, kind: str, strength: float, seed: int) -> Split:
    """Return the split with mistakes in this share of the characters or words of every text.

    `characters` deletes, doubles, replaces or swaps letters; `words` drops, doubles or swaps words. The
    mistakes of an example depend on its id, the strength and the seed alone.
    """
    if not 0 <= strength <= 1:
        raise ConfigError(f"{kind} must be shares from 0 to 1, got {strength}")
    change = KINDS[kind]
    texts = [
        tuple(change(text, strength, random.Random(f"{seed}/{kind}/{strength}/{key}/{index}")) for index, text in texts)
        for key, texts in zip(split.ids, map(enumerate, split.texts), strict=True)
    ]
    return dataclasses.replace(split, texts=texts)


def characters(text: str, share: float, stream: random.Random) -> str:
    """Return the text with mistakes in this share of its letters."""
    changed = list(text)
    for index in range(len(changed)):
        if not changed[index].isalpha() or stream.random() >= share:
            continue
        match stream.randrange(4):
            case 0:
                changed[index] = ""
            case 1:
                changed[index] *= 2
            case 2:
                changed[index] = stream.choice(LETTERS)
            case _ if index + 1 < len(changed):
                changed[index], changed[index + 1] = changed[index + 1], changed[index]
    return "".join(changed).strip() or text


def words(text: str, share: float, stream: random.Random) -> str:
    """Return the text with this share of its words dropped, doubled or swapped with the next; never all dropped."""
    given = text.split(" ")
    changed = list(given)
    for index in range(len(changed)):
        if stream.random() >= share:
            continue
        match stream.randrange(3):
            case 0:
                changed[index] = ""
            case 1:
                changed[index] = f"{changed[index]} {changed[index]}"
            case _ if index + 1 < len(changed):
                changed[index], changed[index + 1] = changed[index + 1], changed[index]
    return " ".join(word for word in changed if word) or text


KINDS: dict[str, Callable[[str, float, random.Random], str]] = {"characters": characters, "words": words}
