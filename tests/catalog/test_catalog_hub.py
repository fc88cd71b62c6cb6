"""Models by hub name, from a hub of our own that is really served over HTTP."""

import json
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from metainf import api
from metainf.catalog.hub import Hub, looks_like_repository
from metainf.domain import BadInput, NotSupported, UnknownName

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 512, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 1024, "vocab_size": 1000,
    "torch_dtype": "bfloat16",
}  # fmt: skip
STRANGE = LLAMA | {"architectures": ["StrangeForCausalLM"], "model_type": "strange"}


def safetensors(kind: str = "BF16", **shapes: list[int]) -> bytes:
    """A weight file whose data is longer than its head, as real ones are."""
    head = json.dumps({n: {"dtype": kind, "shape": s, "data_offsets": [0, 0]} for n, s in shapes.items()})
    return struct.pack("<Q", len(head)) + head.encode() + b"\0" * 100_000


def index(files: list[str], **facts: int) -> bytes:
    return json.dumps({"metadata": facts, "weight_map": {f"t{i}": f for i, f in enumerate(files)}}).encode()


@dataclass
class Served:
    """Repositories that the server holds, and what it was asked."""

    endpoint: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    elsewhere: str | None = None
    broken: int | None = None
    asked: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    sent: int = 0


def _handler(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            served.sent += len(body)

        def do_GET(self) -> None:
            served.asked.append(self.path)
            served.tokens.append(self.headers.get("Authorization"))
            repository, _, file = self.path.lstrip("/").partition("/resolve/main/")
            if served.broken is not None:
                return self.answer(served.broken)
            if repository not in served.files:
                return self.answer(401, X_Error_Code="RepoNotFound")
            if repository in served.gated and self.headers.get("Authorization") != "Bearer open":
                return self.answer(401, X_Error_Code="GatedRepo")
            data = served.files[repository].get(file)
            if data is None:
                return self.answer(404, X_Error_Code="EntryNotFound")
            if served.elsewhere and file.endswith(".safetensors"):
                return self.answer(302, Location=f"{served.elsewhere}{self.path}")
            asked = self.headers.get("Range")
            if asked:
                data = data[: int(asked.rpartition("-")[2]) + 1]
            return self.answer(206 if asked else 200, data, X_Repo_Commit="0123456789abcdef")

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def _serve() -> tuple[Served, ThreadingHTTPServer]:
    served = Served()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    served.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return served, server


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Served]:
    served, server = _serve()
    monkeypatch.delenv("METAINF_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
    monkeypatch.setenv("METAINF_CACHE", str(tmp_path / "cache"))
    yield served
    server.shutdown()
    server.server_close()


def put(hub: Served, name: str, **files: object) -> None:
    hub.files[name] = {}
    for key, data in files.items():
        path = key.replace("__", "/").replace("_json", ".json")
        hub.files[name][path] = data if isinstance(data, bytes) else json.dumps(data).encode()


def test_a_model_is_read_once_and_then_from_the_cache(hub: Served) -> None:
    put(hub, "someone/New-Llama", config_json=LLAMA)
    first = api.model("someone/New-Llama")
    assert (first.name, first.num_layers, first.num_kv_heads) == ("someone/New-Llama", 4, 2)
    assert first.params_b == pytest.approx(0.0095, abs=5e-4)
    assert first.source is not None and first.source.endswith("/someone/New-Llama at 0123456789ab")
    count = len(hub.asked)
    assert api.model("someone/New-Llama") == first and len(hub.asked) == count


def test_known_names_and_other_words_never_ask(hub: Served) -> None:
    assert api.model("Qwen/Qwen3-32B").params_b
    for name in ("no-such-model", "../x", "a/b/c", "a//b", "a/b c"):
        with pytest.raises(BadInput):
            api.model(name)
    assert hub.asked == []


def test_parameters_of_an_unknown_structure_come_from_the_weights(hub: Served) -> None:
    put(hub, "someone/Strange", config_json=STRANGE)
    hub.files["someone/Strange"]["model.safetensors"] = safetensors(a=[1000, 2000], b=[3000])
    model = api.model("someone/Strange")
    assert model.params_b == model.active_params_b == pytest.approx(0.002003, abs=1e-4)
    assert hub.sent < 5000, "only the head of a weight file is fetched"


@pytest.mark.parametrize(
    ("facts", "kind", "billions"),
    [
        ({"total_parameters": 7_000_000_000}, "BF16", 7.0),
        ({"total_size": 14_000_000_000}, "BF16", 7.0),
        ({"total_size": 28_000_000_000}, "F32", 7.0),
        ({"total_size": 14_000_000_000}, "I32", None),
        ({}, "BF16", None),
    ],
)
def test_parameters_of_a_split_checkpoint(
    hub: Served, facts: dict[str, int], kind: str, billions: float | None
) -> None:
    put(hub, "someone/Split", config_json=STRANGE)
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    hub.files["someone/Split"]["model.safetensors.index.json"] = index(files, **facts)
    hub.files["someone/Split"][files[0]] = safetensors(kind, a=[10, 10])
    assert api.model("someone/Split").params_b == billions


def test_a_pipeline_is_read_from_its_components(hub: Served) -> None:
    parts = {"transformer": ["diffusers", "FluxTransformer2DModel"], "vae": ["diffusers", "AutoencoderKL"]}
    config = {"num_layers": 3, "num_attention_heads": 4, "attention_head_dim": 8}
    put(hub, "someone/Painter", model_index_json=parts, transformer__config_json=config, vae__config_json={})
    files = hub.files["someone/Painter"]
    files["transformer/diffusion_pytorch_model.safetensors"] = safetensors(a=[1000, 3000])
    model = api.model("someone/Painter")
    assert (model.modality, model.num_layers, model.hidden_size) == ("image", 3, 32)
    assert model.denoiser_params_b == pytest.approx(0.003) and model.vae_params_b is None


def test_a_gated_repository_needs_a_token(hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    put(hub, "someone/Gated", config_json=LLAMA)
    hub.gated.add("someone/Gated")
    with pytest.raises(UnknownName, match=r"gated.*HF_TOKEN"):
        api.model("someone/Gated")
    monkeypatch.setenv("HF_TOKEN", "open")
    assert api.model("someone/Gated").num_layers == 4


def test_the_token_is_not_shown_to_the_host_of_the_files(
    hub: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, server = _serve()
    try:
        put(hub, "someone/Strange", config_json=STRANGE)
        hub.files["someone/Strange"]["model.safetensors"] = safetensors(a=[1000, 2000])
        other.files, hub.elsewhere = hub.files, other.endpoint
        monkeypatch.setenv("HF_TOKEN", "open")
        assert api.model("someone/Strange").params_b == pytest.approx(0.002)
        assert "Bearer open" in hub.tokens and other.tokens and set(other.tokens) == {None}
    finally:
        server.shutdown()
        server.server_close()


def test_what_is_not_there_keeps_its_near_misses(hub: Served) -> None:
    with pytest.raises(UnknownName, match=r"did you mean.*Qwen3-32B.*has no repository"):
        api.model("Qwen/Qwen3-33B")
    put(hub, "someone/Empty", README_md=b"")
    with pytest.raises(UnknownName, match=r"holds no config\.json"):
        api.model("someone/Empty")
    hub.broken = 503
    with pytest.raises(UnknownName, match="503"):
        api.model("someone/Busy")


@pytest.mark.parametrize("text", [b"{", b"[]", b"{}", b"\xff\xfe"])
def test_a_broken_configuration_is_bad_input_and_names_the_repository(hub: Served, text: bytes) -> None:
    put(hub, "someone/Broken", config_json=text)
    with pytest.raises(BadInput, match="someone/Broken on 127"):
        api.model("someone/Broken")


def test_an_embedding_model_is_not_supported(hub: Served) -> None:
    put(hub, "someone/bert", config_json=LLAMA | {"architectures": ["BertModel"], "model_type": "bert"})
    with pytest.raises(NotSupported, match=r"embeddings.*nearest size"):
        api.model("someone/bert")


def test_no_network_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("METAINF_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("METAINF_CACHE", str(tmp_path))
    with pytest.raises(UnknownName, match=r"cannot be reached.*config\.json"):
        api.model("someone/Anything")


def test_offline_asks_nothing(hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    put(hub, "someone/New-Llama", config_json=LLAMA)
    with pytest.raises(UnknownName, match="offline"):
        api.model("someone/New-Llama", offline=True)
    monkeypatch.setenv("METAINF_OFFLINE", "1")
    with pytest.raises(UnknownName, match="offline"):
        api.model("someone/New-Llama")
    assert hub.asked == []


def test_importers_ask_only_for_what_a_person_typed(hub: Served, tmp_path: Path) -> None:
    fixture = Path(__file__).resolve().parents[1] / "importers" / "fixtures" / "vllm_serve.json"
    named = json.loads(fixture.read_text()) | {"model_id": "someone/Unknown"}
    (tmp_path / "run.json").write_text(json.dumps(named))
    with api.store(str(tmp_path / "records.sqlite")) as store:
        assert api.import_file(tmp_path / "run.json", None, {"hardware": "H100"}, store).new == 1
        assert hub.asked == []
        put(hub, "someone/New-Llama", config_json=LLAMA)
        said = {"model": "someone/New-Llama", "hardware": "H100"}
        assert api.import_file(tmp_path / "run.json", None, said, store).new == 1
        shapes = {record.setting.model.name: record.setting.model.num_layers for record in store.query()}
    assert shapes == {"someone/Unknown": None, "someone/New-Llama": 4} and hub.asked


def test_an_unknown_model_of_the_hub_is_answered_for(hub: Served) -> None:
    big = LLAMA | {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "intermediate_size": 14336,
        "vocab_size": 128256,
    }
    put(hub, "someone/New-Llama", config_json=big | {"num_attention_heads": 32, "num_key_value_heads": 8})
    question = api.Question(
        "someone/New-Llama", ["H100"], "sharegpt", {"concurrency": 8}, engines=("vllm",), top=1
    )
    (best,) = api.select(question).ranked
    assert "someone/New-Llama" in str(best.command) and best.prediction.metrics["tpot_s"].value > 0


def test_an_endpoint_that_is_no_address_is_refused() -> None:
    with pytest.raises(BadInput, match="HF_ENDPOINT"):
        Hub.of_environment({"HF_ENDPOINT": "file:///etc"})


def test_a_cache_that_cannot_be_written_is_said(hub: Served, tmp_path: Path) -> None:
    put(hub, "someone/New-Llama", config_json=LLAMA)
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(Exception, match="cache"):
        Hub(hub.endpoint, blocked / "cache").model("someone/New-Llama")


@pytest.mark.parametrize(
    ("name", "yes"),
    [
        ("Qwen/Qwen3-8B", True),
        ("a/b", True),
        ("a", False),
        ("/a/b", False),
        ("./a/b", False),
        ("a/..", False),
    ],
)
def test_what_looks_like_a_repository(name: str, yes: bool) -> None:
    assert looks_like_repository(name) is yes
