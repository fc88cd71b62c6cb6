"""A model that the catalogue does not know, read from its repository on the Hugging Face hub.

Only configurations, indexes and the heads of weight files are fetched, into a folder of the user's cache,
from which the readers of local folders go on. HF_ENDPOINT names another hub, HF_TOKEN opens gated
repositories, METAINF_OFFLINE=1 (or HF_HUB_OFFLINE=1) forbids asking.
"""

import json
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from metainf.catalog.pipeline import DENOISERS, TEXT_ENCODERS, VAES
from metainf.catalog.weights import INDEX_ENDING
from metainf.domain import BadInput, Model, NotSupported

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
LARGEST = 64 << 20
"""Bytes of the largest index or head that is fetched."""
WEIGHTS = ("model", "diffusion_pytorch_model")
ORIGIN = "origin.json"
OFFLINE = ("METAINF_OFFLINE", "HF_HUB_OFFLINE")


class HubError(Exception):
    """The hub cannot be asked, or does not give the repository. The text says why and what to do."""


@dataclass(frozen=True)
class Hub:
    """Where to ask, and as whom. Files are cached in `cache`; a fetched model is never asked for again."""

    endpoint: str
    cache: Path
    token: str | None = None
    timeout_s: float = 5.0

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> "Hub | None":
        """The hub that environment variables describe, None where they forbid asking.

        Raises BadInput for an endpoint that is no http address.
        """
        if any(environment.get(name, "0").lower() not in ("", "0", "false", "no") for name in OFFLINE):
            return None
        endpoint = (environment.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        if not _is_address(endpoint):
            raise BadInput(
                f"HF_ENDPOINT: expected an address such as https://huggingface.co, found {endpoint!r}"
            )
        token = (environment.get("HF_TOKEN") or "").strip()
        if not (token.isascii() and token.isprintable()):
            raise BadInput("HF_TOKEN: expected printable ASCII characters, found others: set it anew")
        return cls(endpoint, _cache_folder(environment), token or None)

    @property
    def name(self) -> str:
        """Host, for messages."""
        return urlsplit(self.endpoint).netloc

    def model(self, repository: str) -> Model:
        """The model of a repository `organisation/name`.

        Raises HubError where it cannot be fetched, BadInput for a configuration that cannot be read,
        NotSupported for a model that generates nothing.
        """
        from metainf.catalog.files import read_model

        folder = self.cache / self.name.replace(":", "_") / repository.replace("/", "--")
        if not (folder / ORIGIN).exists():
            self._fetch(repository, folder)
        commit = json.loads((folder / ORIGIN).read_bytes())["commit"]
        try:
            found = read_model(folder)
        except (BadInput, NotSupported) as error:
            raise type(error)(f"{repository} on {self.name}: {error}") from None
        at = f" at {commit[:12]}" if commit else ""
        return found.model_copy(update={"name": repository, "source": f"{self.name}/{repository}{at}"})

    def _fetch(self, repository: str, folder: Path) -> None:
        """Write the small files of a repository into a new folder, whole or not at all."""
        import tempfile

        from metainf.catalog.hub_client import Client

        client = Client(self.endpoint, self.token, self.timeout_s, repository)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                for name, data in small_files(client):
                    file = Path(scratch) / name
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(data)
                (Path(scratch) / ORIGIN).write_text(json.dumps({"commit": client.commit}), encoding="utf-8")
                if not folder.exists():
                    Path(scratch).rename(folder)
                    Path(scratch).mkdir()
        except OSError as error:
            raise HubError(f"the cache at {self.cache} cannot be written ({error.strerror})") from None


def looks_like_repository(name: str) -> bool:
    """Whether a name has the form organisation/name and nothing of a path."""
    return REPOSITORY.fullmatch(name) is not None and ".." not in name


def small_files(client: Any) -> Iterator[tuple[str, bytes]]:
    """(path, content) of what describes a repository: configurations, indexes, heads of weight files.

    Raises HubError where the repository holds no configuration.
    """
    index = client.read("model_index.json")
    if index is not None:
        yield "model_index.json", index
        for part in _parts(index):
            config = client.read(f"{part}/config.json")
            if config is not None:
                yield f"{part}/config.json", config
            yield from _weights(client, f"{part}/")
        return
    config = client.read("config.json")
    if config is None:
        raise HubError(
            f"{client.repository} holds no config.json and no model_index.json "
            "(for GGUF files: download one and give its path)"
        )
    yield "config.json", config
    yield from _weights(client, "")


def _parts(index: bytes) -> list[str]:
    """Components of a pipeline that its model_index.json names; none where it is not JSON."""
    try:
        named = json.loads(index)
    except ValueError:
        return []
    wanted = (*DENOISERS, *TEXT_ENCODERS, *VAES)
    return [part for part in wanted if isinstance(named, dict) and isinstance(named.get(part), list)]


def _weights(client: Any, where: str) -> Iterator[tuple[str, bytes]]:
    """Index of a split checkpoint with the head of its first file, else the head of the single file."""
    for stem in WEIGHTS:
        index = client.read(f"{where}{stem}{INDEX_ENDING}")
        if index is not None:
            yield f"{where}{stem}{INDEX_ENDING}", index
            first = _first_file(index)
            head = client.head(f"{where}{first}") if first else None
            if head is not None:
                yield f"{where}{first}", head
            return
        head = client.head(f"{where}{stem}.safetensors")
        if head is not None:
            yield f"{where}{stem}.safetensors", head
            return


def _first_file(index: bytes) -> str | None:
    try:
        files = sorted(set(json.loads(index)["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return files[0] if files and re.fullmatch(r"[\w.-]+\.safetensors", str(files[0])) else None


def head_size(beginning: bytes) -> int | None:
    """Bytes of a safetensors file up to the end of its header, from its first 8; None for a foreign file."""
    if len(beginning) < 8:
        return None
    (size,) = struct.unpack("<Q", beginning[:8])
    return int(size) + 8 if 2 <= size <= LARGEST else None


def _cache_folder(environment: Mapping[str, str]) -> Path:
    if environment.get("METAINF_CACHE"):
        return Path(environment["METAINF_CACHE"]) / "hub"
    from platformdirs import user_cache_path

    return user_cache_path("metainf") / "hub"


__all__ = ["Hub", "HubError", "head_size", "looks_like_repository", "small_files"]


def _is_address(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)
