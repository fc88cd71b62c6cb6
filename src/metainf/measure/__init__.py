"""This machine, real engines: prompts are sent, times are taken, records are made."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Verb(ModuleType):
    """This package under the name of the verb: `metainf.measure(...)` measures (`metainf.api.notebook`)."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return import_module("metainf.api.notebook").measure(*arguments, **named)


sys.modules[__name__].__class__ = _Verb
