"""Command lines of hosts: refused words are told with the nearest one."""

import argparse
from typing import NoReturn

from metainf.domain.errors import near_misses


class Parser(argparse.ArgumentParser):
    """A parser whose refusal names the nearest word."""

    def error(self, message: str) -> NoReturn:
        unknown = message.partition("unrecognized arguments: ")[2].split()
        known = [word for action in self._actions for word in action.option_strings]
        hints = [
            f"{word}: did you mean {' or '.join(near)}?"
            for word in unknown
            if word.startswith("-") and (near := near_misses(word.partition("=")[0], known, 2))
        ]
        self.exit(2, f"{self.prog}: {'; '.join([message, *hints])}\n")


def positive(text: str) -> int:
    """A whole number from 1 on; ValueError otherwise."""
    number = int(text)
    if number < 1:
        raise ValueError(f"expected a whole number from 1 on, found {text}")
    return number


def serving_words(parser: Parser) -> None:
    """The words of every host: the model, where to listen, and the name to answer under."""
    parser.add_argument("model", help="a GGUF file, or a folder with the model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--served-model-name")
