"""YAML as people write it: keys in the order given, long texts in blocks."""

from collections.abc import Iterable
from typing import Any

from metainf.domain import MissingExtra


def yaml_text(*documents: Any) -> str:
    """One or more documents. Raises MissingExtra where PyYAML is not installed."""
    try:
        import yaml
    except ImportError:
        raise MissingExtra("writing YAML", "yaml") from None

    class Written(yaml.SafeDumper):
        """PyYAML's own, with blocks for texts of several lines and lists set in."""

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, False)

    def text(dumper: Any, value: str) -> Any:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Written.add_representer(str, text)
    dumped = yaml.dump_all(
        [without_none(each) for each in documents],
        Dumper=Written,
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )
    return str(dumped)


def without_none(value: Any) -> Any:
    """The value without keys that have none."""
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_none(item) for item in value]
    return value


def words(argv: Iterable[str]) -> list[str]:
    """A command line as a list of texts."""
    return [str(word) for word in argv]
