"""A trained predictor in one file: a zip of a manifest, the learners' state as JSON, and boosted trees.

Nothing in it is executed. Every member's hash stands in the manifest; a foreign, truncated or altered
file is refused with ArtifactError. The same training gives the same bytes.
"""

import hashlib
import json
import zipfile
import zlib
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

from metainf.domain import ArtifactError

FORMAT = "metainf-predictor"
VERSION = 2
_EPOCH = (1980, 1, 1, 0, 0, 0)
_LARGEST = 512 * 2**20
_BROKEN = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, OSError, RuntimeError)


@dataclass(frozen=True)
class Artifact:
    """Manifest (sources, licences, hash of the records, versions, scores), state, and tree models."""

    manifest: dict[str, Any]
    state: dict[str, Any]
    trees: dict[str, bytes]

    def dump(self) -> bytes:
        """The file's bytes."""
        members = {"state.json": _json(self.state)} | {
            f"trees/{k}.bin": v for k, v in sorted(self.trees.items())
        }
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
        manifest = {"format": FORMAT, "version": VERSION, **self.manifest, "members": hashes}
        out = BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, data in {"manifest.json": _json(manifest), **members}.items():
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, data)
        return out.getvalue()


def load(data: bytes, where: str = "predictor") -> Artifact:
    """Read and verify. Raises ArtifactError saying what was found."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST:
                raise ArtifactError(f"{where}: expected at most {_LARGEST >> 20} MiB unpacked, found more")
            members = {name: archive.read(name) for name in archive.namelist()}
        manifest = json.loads(members.pop("manifest.json"))
    except _BROKEN as error:
        raise ArtifactError(f"{where}: expected a predictor made by metainf train, found {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtifactError(f"{where}: expected format {FORMAT}, found another; train one with metainf train")
    if manifest.get("version") != VERSION:
        raise ArtifactError(
            f"{where}: expected version {VERSION}, found {manifest.get('version')!r}; train it again"
        )
    hashes = {name: hashlib.sha256(part).hexdigest() for name, part in members.items()}
    if hashes != manifest.pop("members", None):
        raise ArtifactError(
            f"{where}: its parts do not match its manifest; the file was altered or cut short"
        )
    trees = {name[6:-4]: part for name, part in members.items() if name.startswith("trees/")}
    try:
        state = json.loads(members["state.json"])
    except (KeyError, ValueError):
        state = None
    if not isinstance(state, dict):
        raise ArtifactError(f"{where}: expected an object in state.json, found none; train it again")
    return Artifact(manifest, state, trees)


def read(path: Path | None = None) -> Artifact:
    """The predictor of a file, or the one that ships with the package."""
    if path is not None:
        try:
            return load(path.read_bytes(), str(path))
        except OSError as error:
            raise ArtifactError(f"{path}: expected a predictor file, found {error.strerror}") from None
    shipped = files("metainf.learn") / "data" / "public.metainf"
    try:
        return load(shipped.read_bytes(), "the shipped predictor")
    except OSError:
        raise ArtifactError("the package carries no predictor; train one with metainf train") from None


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
