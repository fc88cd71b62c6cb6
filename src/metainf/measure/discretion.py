"""What records do not tell: folders, which hold people's names, and passwords. Pure."""

import re

_QUOTED = re.compile(
    r"""(['"])(?:file://)?(?:~|[A-Za-z]:)?[/\\](?![/\\])[^'"\n]*[/\\]([^'"/\\\n]+)[/\\]?\1"""
)
_HOME = re.compile(r"(?<![\w.\])/])(?:file://)?/(?:home|Users)/[^/\s'\"`,;:()<>|]+(?![/\w])")
_PATH = re.compile(r"(?<![\w.\])/])(?:file://)?~?/(?!/|v1/)(?:[^/\s'\"`,;:()<>|]*/)+([^/\s'\"`,;:()<>|]*)")
_WINDOWS = re.compile(r"(?<!\w)[A-Za-z]:\\(?:[^\\\s'\"`,;:()<>|]+\\)+([^\\\s'\"`,;:()<>|]*)")
_USER = re.compile(r"(\w://)[^/\s'\"@]+@")


def discreet(text: str) -> str:
    """The text with each absolute path cut to its last part, and URLs without user and password.

    Paths under `/v1/` are addresses of servers and stay.
    """
    text = _USER.sub(r"\1", text)
    text = _QUOTED.sub(r"\1\2\1", text)
    text = _HOME.sub("~", text)
    return _WINDOWS.sub(r"\1", _PATH.sub(r"\1", text))


def file_name(path: str) -> str:
    """The last part of what was typed as a file; a name such as `owner/model` as it is."""
    plain = path.replace("\\", "/")
    is_path = plain.startswith(("/", "~", ".")) or plain.lower().endswith(".gguf") or "\\" in path
    return plain.rstrip("/").rpartition("/")[2] if is_path else path
