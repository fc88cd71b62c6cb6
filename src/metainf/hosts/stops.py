"""Texts that end a text: found across pieces, and never let out, not even in part."""

from collections.abc import Sequence


class Stops:
    """A growing text that ends before the first of some words. `found` once one was there."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self.found = False
        self._held = ""

    def add(self, text: str) -> str:
        """What of the text so far is certain; nothing more once a word was found."""
        if self.found:
            return ""
        held = self._held + text
        places = [at for word in self.words if (at := held.find(word)) >= 0]
        if places:
            self.found, self._held = True, ""
            return held[: min(places)]
        keep = max((_begun(held, word) for word in self.words), default=0)
        sure = len(held) - keep
        self._held = held[sure:]
        return held[:sure]

    def rest(self) -> str:
        """What was held back, where no word came of it."""
        rest, self._held = self._held, ""
        return rest


def _begun(text: str, word: str) -> int:
    """Characters at the end of the text with which the word begins."""
    most = min(len(word) - 1, len(text))
    return next((count for count in range(most, 0, -1) if text.endswith(word[:count])), 0)
