"""Looking in the catalogue by words: names, makers, abilities, languages, licences, also when they are misspelt."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType

from filbert.models import catalogue
from filbert.models.catalogue import Entry

LEAST_CLOSENESS = 0.7
NAME, ABILITY, MAKER, OTHER = 8, 4, 4, 1  # what a word counts, by where it is found

# What people call what the catalogue calls otherwise.
MEANINGS = MappingProxyType(
    {
        "image": "vision",
        "images": "vision",
        "multimodal": "vision",
        "picture": "vision",
        "reasoning": "thinking",
        "function": "tools",
        "functions": "tools",
        "vector": "embed",
        "vectors": "embed",
        "programming": "coder",
        "embedding": "embed",
        "embeddings": "embed",
        "embedder": "embed",
        "reranker": "rerank",
        "reranking": "rerank",
    }
)
LANGUAGES = MappingProxyType(
    {
        "de": "german",
        "en": "english",
        "es": "spanish",
        "fr": "french",
        "hi": "hindi",
        "it": "italian",
        "ja": "japanese",
        "pt": "portuguese",
        "ru": "russian",
        "th": "thai",
        "zh": "chinese",
    }
)


def search(text: str) -> tuple[Entry, ...]:
    """The entries in which every word of `text` is found, the best first; a word that is nowhere stands for those that
    resemble it."""
    asked = [_meant(word) for word in text.lower().split()]
    scored = [(_score(asked, words), entry) for entry, words in zip(catalogue.entries(), _words(), strict=True)]
    found = [(score, entry) for score, entry in scored if score > 0]
    return tuple(entry for _, entry in sorted(found, key=lambda pair: -pair[0]))  # equals in the catalogue's order


def _score(asked: Sequence[Mapping[str, float]], words: Mapping[str, int]) -> float:
    """The sum over the words asked for of the best place each is found in; 0 where one is nowhere."""
    best = [max((weight * near[word] for word, weight in words.items() if word in near), default=0) for near in asked]
    return sum(best) if best and all(best) else 0


def _meant(word: str) -> dict[str, float]:
    """The catalogue's words that this one stands for, with how near each is: those that hold it, else those that
    resemble it."""
    word = MEANINGS.get(word, word)
    known = {known for words in _words() for known in words}
    near = {each: 1.0 if each == word else 0.5 for each in known if word in each}
    return near or dict.fromkeys(difflib.get_close_matches(word, known, n=5, cutoff=LEAST_CLOSENESS), 0.25)


@cache
def _words() -> tuple[Mapping[str, int], ...]:
    """For each entry the words it is found by, with what each counts."""
    return tuple(_words_of(entry) for entry in catalogue.entries())


def _words_of(entry: Entry) -> Mapping[str, int]:
    family, _, rest = entry.name.partition(":")
    names = (entry.name, entry.short, family, rest, *re.split(r"[:_-]", entry.name), entry.files[0].name.lower())
    makers = (entry.maker or "").lower()
    others = (entry.licence or "", *entry.languages, *(LANGUAGES.get(code, "") for code in entry.languages))
    counted = (
        *((word.lower(), OTHER) for word in (*others, *entry.source.split("/")[0].split(":"))),
        *((word, MAKER) for word in (makers, *makers.split())),
        *((word, ABILITY) for word in entry.capabilities),
        *((word, NAME) for word in names),
    )
    return {word: weight for word, weight in counted if word}  # the last counts: the heaviest
