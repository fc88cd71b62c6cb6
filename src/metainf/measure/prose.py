"""Plain English of any length, made by chance: what prompts are filled with.

Prefix caches and drafting depend on the text, so random tokens would not do. Words are short and common: most
are one token for the usual tokenizers, as is each full stop. Lengths in tokens are therefore approximate; the
counts of a run are the server's own.
"""

import re
from itertools import islice

import numpy as np

_N = (
    "river|garden|letter|window|bridge|market|teacher|story|mountain|winter|summer|table|bread|horse|ship|"
    "road|house|door|farmer|doctor|child|tree|field|village|city|boat|train|clock|book|song|coat|kitchen|"
    "forest|island|lake|valley|tower|wall|stone|fire|cloud|storm|morning|evening|friend|king|queen|soldier|"
    "painter|writer|captain|shop|hall|school|church|harbor|hill|road|path|gate"
)
_A = (
    "old|young|small|large|quiet|bright|dark|green|blue|red|white|cold|warm|slow|quick|heavy|light|long|short|"
    "early|late|empty|full|plain|simple|strong|soft|hard|dry|wet|new|good|great|kind|proud|busy|calm|rich|poor"
)
_V = (
    "found|saw|left|held|kept|lost|made|built|carried|watched|followed|reached|opened|closed|crossed|painted|"
    "moved|bought|sold|helped|met|told|heard|loved|feared|drew|cut|served|passed|turned"
)
_P = "near|behind|above|below|beside|under|inside|outside|across|before|after|around|against|between"
_T = "today|again|soon|often|later|early|alone|together|slowly|quickly|then|once|always|never"
_WHO = "Anna|Peter|Maria|John|Clara|David|Emma|Frank|Helen|James|Laura|Martin|Paul|Rose|Simon|Alice"
_SLOTS = {
    slot: tuple(dict.fromkeys(words.split("|")))
    for slot, words in zip("NAVPTW", (_N, _A, _V, _P, _T, _WHO), strict=True)
}
_TEMPLATES = tuple(
    tuple(template.split())
    for template in (
        "The A N V the N P the A N .",
        "W V a N and a A N P the N .",
        "In the N the A N V a N T .",
        "W and W V the A N P the N .",
        "A A N P the N V the N T .",
        "T the N V the A N , and W V the N .",
        "When the N V the N , W V the A N .",
        "Every N P the A N V a N T .",
        "W said that the N V the A N P the N .",
        "There was a A N P the N , and it V the N T .",
        "The N of the N was A , but the N V the N T .",
        "No N in the A N V the N before W V the N .",
    )
)
_MOST_SLOTS = max(len(template) for template in _TEMPLATES) + 1
_SHORTEST = min(len(template) for template in _TEMPLATES)
_OPENINGS = tuple(dict.fromkeys(word.capitalize() for slot in "NAVT" for word in _SLOTS[slot]))
_COUNTED = re.compile(r"\w+|[^\w\s]")


def about_tokens(text: str) -> int:
    """Words and punctuation marks: roughly the tokens of plain English."""
    return len(_COUNTED.findall(text))


def prose(rng: np.random.Generator, tokens: int) -> str:
    """Sentences of about `tokens` tokens in all; the last may break off."""
    drawn = rng.integers(0, 1 << 30, size=(tokens // _SHORTEST + 1, _MOST_SLOTS)).tolist()
    pieces: list[str] = []
    for numbers in drawn:
        if len(pieces) >= tokens:
            break
        pieces += _sentence(numbers)
    return joined(pieces[:tokens])


def _sentence(numbers: list[int]) -> list[str]:
    template = _TEMPLATES[numbers[0] % len(_TEMPLATES)]
    words: list[str] = []
    for place, (word, number) in enumerate(zip(template, numbers[1:], strict=False)):
        slot = _SLOTS.get(word) if place or word != "A" else None
        chosen = slot[number % len(slot)] if slot else word
        if slot and words and words[-1] in ("a", "A") and chosen[0] in "aeiou":
            words[-1] += "n"
        words.append(chosen.capitalize() if place == 0 else chosen)
    return words


def joined(pieces: list[str]) -> str:
    """Pieces of one token each as a text: a space before each word, none before a mark."""
    return "".join(piece if piece in ".,?:" else f" {piece}" for piece in pieces).strip()


def opening(number: int) -> list[str]:
    """The `number`-th beginning: two words and a full stop.

    Beginnings differ in their first word as long as there are words (141), and in their first two after that.
    """
    first = number % len(_OPENINGS)
    second = (number // len(_OPENINGS) + first + 1) % len(_OPENINGS)
    return [_OPENINGS[first], _OPENINGS[second].lower(), "."]


def own_text(rng: np.random.Generator, tokens: int, number: int) -> str:
    """The `number`-th text of about `tokens` tokens (at least one): its own beginning, then prose."""
    own = joined(opening(number)[: max(tokens, 1)])
    return f"{own} {prose(rng, tokens - 3)}" if tokens > 3 else own


def beginning(text: str, tokens: int) -> str:
    """The first `tokens` words and marks of a text."""
    ends = [found.end() for found in islice(_COUNTED.finditer(text), tokens)]
    return text[: ends[-1]] if ends else ""
