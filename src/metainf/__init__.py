"""MetaInf: which inference acceleration to turn on, on which machine, and what it will cost."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metainf.api.notebook import evaluate, measure, predict, select, size

__version__ = "0.1.0"
__all__ = ["__version__", "evaluate", "measure", "predict", "select", "size"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from metainf.api import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
