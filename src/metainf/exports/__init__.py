"""A chosen method as a file of the tool that will run it. Pure: a deployment in, text out.

Each row of EXPORTS is a function from a `Deployment` to the text of one file.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import cast

from metainf.domain import UnknownName
from metainf.exports.deployment import Deployment, deployment

EXPORTS: Mapping[str, str] = {
    "compose": "metainf.exports.compose:compose",
    "kubernetes": "metainf.exports.kubernetes:kubernetes",
    "skypilot": "metainf.exports.skypilot:skypilot",
    "ray": "metainf.exports.ray:ray",
}
"""Name -> "module:function"."""


def export(name: str) -> Callable[[Deployment], str]:
    """The function of a name. UnknownName with near misses for any other."""
    if name not in EXPORTS:
        raise UnknownName("export", name, EXPORTS)
    module, _, attribute = EXPORTS[name].partition(":")
    return cast(Callable[[Deployment], str], getattr(import_module(module), attribute))


__all__ = ["EXPORTS", "Deployment", "deployment", "export"]
