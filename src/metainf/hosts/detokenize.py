"""Text of tokens as they come, never half a character."""

import codecs
from collections.abc import Callable, Mapping, Sequence

Decode = Callable[[list[int]], str]
KEPT = 8
PROBE = "Hello, wörld!  日本\n\t{x: 1}"


class Vocabulary:
    """Bytes of each token where the tokens' own bytes are the text, else the tokenizer itself."""

    def __init__(
        self, entries: Mapping[bytes, int], encode: Callable[[str], Sequence[int]], decode: Decode
    ) -> None:
        table = {number: entry for entry, number in entries.items()}
        probe = b"".join(table.get(number, b"") for number in encode(PROBE))
        self.decode = decode
        self.table = table if probe == PROBE.encode() else None
        marked = [number for number, entry in table.items() if entry[:1] == b"<" and entry[-1:] == b">"]
        for number in marked:
            if not decode([number]):
                table[number] = b""

    def text(self) -> "TextOfTokens":
        """A fresh text."""
        return TextOfTokens(self)


class TextOfTokens:
    """One growing text. `add` returns what the new tokens made certain, `rest` what is left at the end."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.bytes = codecs.getincrementaldecoder("utf-8")("replace")
        self.tokens: list[int] = []
        self.said = ""

    def add(self, tokens: Sequence[int]) -> str:
        """The text of more tokens, without a character that is not complete yet."""
        table = self.vocabulary.table
        if table is not None:
            return self.bytes.decode(b"".join(table.get(token, b"") for token in tokens))
        self.tokens += tokens
        whole = self.vocabulary.decode(self.tokens)
        if whole.endswith("\ufffd"):
            return ""
        new, self.said = whole[len(self.said) :], whole
        if "\n" in new or len(self.tokens) > 64:
            self._forget()
        return new

    def _forget(self) -> None:
        """Keep only the last tokens, unless they begin within a character: what comes would break it."""
        last = self.tokens[-KEPT:]
        said = self.vocabulary.decode(last)
        if "\ufffd" not in said:
            self.tokens, self.said = last, said

    def rest(self) -> str:
        """What is still held back."""
        if self.vocabulary.table is not None:
            return self.bytes.decode(b"", final=True)
        return self.vocabulary.decode(self.tokens)[len(self.said) :]
