"""A predictor file is whole, of this version and ours, or refused."""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metainf.domain import ArtifactError
from metainf.learn import artifact
from metainf.learn.artifact import FORMAT, VERSION, Artifact, load, read

SMALL = Artifact(
    {"sources": ["made-up"], "records": 3},
    {"scale": [0.1, 0.2], "name": "x"},
    {"tpot_s": b"ab" * 40, "p": b"c"},
)
DATA = SMALL.dump()
finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | words,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def archive(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for name, data in members.items():
            made.writestr(name, data)
    return out.getvalue()


def with_manifest(manifest: Any, members: dict[str, bytes]) -> bytes:
    return archive({"manifest.json": json.dumps(manifest).encode(), **members})


def test_dump_and_load() -> None:
    back = load(DATA)
    assert back.state == SMALL.state and back.trees == SMALL.trees
    assert back.manifest == {"format": FORMAT, "version": VERSION, **SMALL.manifest}


@given(
    st.dictionaries(st.text("abc", max_size=3), plain, max_size=3),
    st.dictionaries(st.text("abc_", min_size=1, max_size=5), st.binary(max_size=30), max_size=3),
)
@settings(max_examples=40)
def test_any_state_and_trees_come_back(state: dict[str, Any], trees: dict[str, bytes]) -> None:
    back = load(Artifact({}, state, trees).dump())
    assert back.state == state and back.trees == trees


def test_the_same_artifact_gives_the_same_bytes() -> None:
    turned = Artifact(
        dict(reversed(SMALL.manifest.items())),
        dict(reversed(SMALL.state.items())),
        dict(reversed(SMALL.trees.items())),
    )
    assert turned.dump() == DATA


def test_what_json_cannot_say_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        Artifact({}, {"x": float("nan")}, {}).dump()


@pytest.mark.parametrize("length", range(0, len(DATA), max(1, len(DATA) // 60)))
def test_a_truncated_file_is_refused(length: int) -> None:
    with pytest.raises(ArtifactError):
        load(DATA[:length])


def same_or_refused(data: bytes) -> None:
    """Bytes that carry nothing (zip time stamps and the like) may differ; content may not."""
    try:
        back = load(data)
    except ArtifactError:
        return
    assert back == load(DATA)


@pytest.mark.parametrize("data", [b"", b"x", b"PK\x03\x04", b"\x80\x04N.", b"{}", bytes(200)])
def test_what_is_no_zip_is_refused(data: bytes) -> None:
    with pytest.raises(ArtifactError, match="expected a predictor made by metainf train"):
        load(data)


def test_a_foreign_zip_is_refused() -> None:
    with pytest.raises(ArtifactError, match="expected a predictor"):
        load(archive({"hello.txt": b"hello"}))
    with pytest.raises(ArtifactError, match="expected format"):
        load(with_manifest({"format": "another"}, {}))
    with pytest.raises(ArtifactError, match="expected format"):
        load(with_manifest([], {}))


@pytest.mark.parametrize("version", [0, VERSION + 1, None, "1"])
def test_another_version_is_refused(version: object) -> None:
    with pytest.raises(ArtifactError, match="expected version"):
        load(with_manifest({"format": FORMAT, "version": version}, {}))


def test_a_swapped_added_or_missing_member_is_refused() -> None:
    state = b"{}"
    manifest = {
        "format": FORMAT, "version": VERSION, "members": {"state.json": hashlib.sha256(state).hexdigest()}
    }  # fmt: skip
    assert load(with_manifest(manifest, {"state.json": state})).state == {}
    for members in ({"state.json": b"[]"}, {"state.json": state, "trees/x.bin": b"x"}, {}):
        with pytest.raises(ArtifactError, match="do not match"):
            load(with_manifest(manifest, members))


def test_read_says_which_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"absent\.metainf: expected a predictor file"):
        read(tmp_path / "absent.metainf")
    (tmp_path / "bad.metainf").write_bytes(b"bad")
    with pytest.raises(ArtifactError, match=r"bad\.metainf"):
        read(tmp_path / "bad.metainf")
    (tmp_path / "good.metainf").write_bytes(DATA)
    assert read(tmp_path / "good.metainf") == load(DATA)


def test_nothing_that_executes_is_read() -> None:
    source = Path(artifact.__file__).read_text(encoding="utf-8")
    words = ("pick" + "le", "marshal", "joblib", "eval(", "exec(", "extractall")
    assert not [word for word in words if word in source]


def test_a_flipped_byte_is_refused_or_without_effect() -> None:
    for place in range(len(DATA)):
        for flip in (0x01, 0x80, 0xFF):
            same_or_refused(DATA[:place] + bytes([DATA[place] ^ flip]) + DATA[place + 1 :])


def test_a_predictor_without_state_is_refused() -> None:
    with pytest.raises(ArtifactError):
        load(with_manifest({"format": FORMAT, "version": VERSION, "members": {}}, {}))
