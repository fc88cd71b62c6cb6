"""Texts as tokens and back, by the tokenizer that lies beside a model's weights."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metainf.domain import BadInput, MissingExtra
from metainf.hosts.detokenize import TextOfTokens, Vocabulary

UNLIKE = "expected messages to be a list of objects with a role and a content of text"
WORDS_OF_LENGTH = ("max_position_embeddings", "n_positions")


class Tokens:
    """A tokenizer, its chat template where it has one, and the tokens that end a text."""

    def __init__(self, folder: Path) -> None:
        """Read it. Raises BadInput where the folder holds no tokenizer, MissingExtra."""
        try:
            from transformers import AutoTokenizer
        except ImportError:
            raise MissingExtra("the tokenizer of a model", "swarm") from None
        try:
            self.library: Any = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"expected a tokenizer in {folder}, found none: {str(error)[:200]}") from None
        self.size = len(self.library)
        self.has_template = bool(self.library.chat_template)
        self.ends = _ends(self.library, folder)
        self.most_tokens = _length(folder)
        self._vocabulary = Vocabulary({}, self.encode, self.decode)

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Tokens of a text; `special` adds what the tokenizer puts around one."""
        return [int(each) for each in self.library.encode(text, add_special_tokens=special)]

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, without the special ones."""
        told = self.library.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(told)

    def text(self) -> TextOfTokens:
        """A text that grows token by token, never half a character."""
        return self._vocabulary.text()

    def said(self, tokens: Sequence[int]) -> str:
        """The text of an answer's tokens, as it was streamed; a token that ends it says nothing."""
        text, ended = self.text(), bool(tokens) and tokens[-1] in self.ends
        return "".join(text.add([each]) for each in (tokens[:-1] if ended else tokens)) + text.rest()

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The prompt of a conversation, by the model's own template. Raises BadInput."""
        if not self.has_template:
            raise BadInput("expected a tokenizer with a chat template, found none: ask for a completion")
        told = [_message(each) for each in messages] if isinstance(messages, list) else []
        if not told:
            raise BadInput(UNLIKE)
        try:
            return str(self.library.apply_chat_template(told, add_generation_prompt=True, tokenize=False))
        except Exception as error:  # templates are programs, and raise what they like
            raise BadInput(f"the chat template refuses the messages: {error}") from None


def _message(told: Any) -> dict[str, str]:
    """A message with its parts of text joined. Raises BadInput."""
    found = dict(told) if isinstance(told, Mapping) else {}
    parts = found.get("content")
    if isinstance(parts, list) and all(isinstance(p, Mapping) and p.get("type") == "text" for p in parts):
        found["content"] = "".join(str(part.get("text", "")) for part in parts)
    if not isinstance(found.get("role"), str) or not isinstance(found.get("content"), str):
        raise BadInput(UNLIKE)
    return {"role": found["role"], "content": found["content"]}


def _ends(library: Any, folder: Path) -> frozenset[int]:
    """The tokenizer's own end, and those that the model's generation settings name."""
    found = [library.eos_token_id]
    told = _read(folder / "generation_config.json").get("eos_token_id")
    found += told if isinstance(told, list) else [told]
    return frozenset(each for each in found if isinstance(each, int))


def _length(folder: Path) -> int | None:
    """The most positions that the model knows."""
    told = _read(folder / "config.json")
    return next((told[word] for word in WORDS_OF_LENGTH if isinstance(told.get(word), int)), None)


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
