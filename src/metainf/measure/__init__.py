"""This machine, real engines: prompts are sent, times are taken, records are made.

`metainf.measure` is the name of this package and of the verb. Python puts a package under its name as soon as
anything of it is imported, so the package is called like the verb.
"""

import sys
from types import ModuleType
from typing import Any


class _Verb(ModuleType):
    """A package that can be called."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """As `metainf.api.notebook.measure`, which `metainf` gives."""
        import metainf

        return metainf.__getattr__("measure")(*arguments, **named)


sys.modules[__name__].__class__ = _Verb
