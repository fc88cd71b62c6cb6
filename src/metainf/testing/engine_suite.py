"""The contract of an engine, as tests to inherit.

Subclass it in a test file, give it a fixture `engine` and, where the engine does not serve the models
below, a fixture `settings` of (model, hardware, workload) triples it does serve.
"""

import shlex

import pytest

from metainf.domain import (
    Device,
    Disaggregation,
    Hardware,
    Lengths,
    Method,
    Model,
    NotSupported,
    Technique,
    Workload,
)
from metainf.engines import Engine
from metainf.engines.compatibility import check
from metainf.engines.evidence import Evidence, Reading, contradictions, unproven
from metainf.engines.launch import kind_of
from metainf.engines.serving import ServingEngine

Case = tuple[Model, Hardware, Workload]

GARBAGE = (
    "\x00\ufffd\n{}{{\n# HELP\n",
    "n_slots = many n_ubatch = \nfile type = \nserver_args=ServerArgs(tp_size=, max_running_requests='x'",
    'metric{a="b 1\nmetric NaN\nmetric +Inf\nmetric 1 2 3\n:: 1e999\n',
    "Initializing a V1 LLM engine (v) with config: speculative_config=\nRunning: reqs\nslot release: id",
)

MAX_METHODS = 40
PLACEHOLDERS = ("<", ">", "TODO", "PLACEHOLDER", "None", "{}", "...")

H100 = Device(
    name="h100-sxm",
    vendor="NVIDIA",
    kind="gpu",
    memory_gib=80,
    compute_capability="9.0",
    typical_per_node=8,
)
CHAT = Workload(
    input_tokens=Lengths(mean=512, max=2048), output_tokens=Lengths(mean=128, max=512), concurrency=32
)
DENSE_8B = Model(
    name="meta-llama/Llama-3.1-8B-Instruct",
    params_b=8.03,
    num_layers=32,
    hidden_size=4096,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    intermediate_size=14336,
    vocab_size=128256,
    dtype="bfloat16",
)
IMAGE = Model(
    name="stabilityai/stable-diffusion-xl-base-1.0",
    modality="image",
    denoiser_params_b=2.57,
    text_encoder_params_b=0.82,
    vae_params_b=0.08,
    default_resolution_px=1024,
    default_steps=50,
)


def text_cases() -> list[Case]:
    """A dense 8-billion-parameter chat model on one, two and four H100."""
    return [(DENSE_8B, Hardware(device=H100, count=count), CHAT) for count in (1, 2, 4)]


def image_cases() -> list[Case]:
    """A latent diffusion model on one H100."""
    return [(IMAGE, Hardware(device=H100, count=1), Workload(width_px=1024, height_px=1024, steps=30))]


class EngineSuite:
    """Tests every engine passes. Inherit it and define the fixture `engine`."""

    @pytest.fixture
    def engine(self) -> Engine:
        """The engine under test."""
        raise NotImplementedError("define a fixture `engine`")

    @pytest.fixture
    def settings(self) -> list[Case]:
        """Settings the engine serves."""
        return text_cases()

    def test_methods_are_its_own_distinct_and_few(self, engine: Engine, settings: list[Case]) -> None:
        """Every served setting has 1 to 40 different methods of this engine."""
        for model, hardware, workload in settings:
            methods = engine.methods(model, hardware, workload)
            assert 0 < len(methods) <= MAX_METHODS
            assert len({method.id for method in methods}) == len(methods)
            assert {method.engine for method in methods} == {engine.name}

    def test_methods_are_reproducible(self, engine: Engine, settings: list[Case]) -> None:
        """Asked twice, the same list in the same order."""
        for setting in settings:
            assert engine.methods(*setting) == engine.methods(*setting)

    def test_methods_use_offered_techniques_only(self, engine: Engine, settings: list[Case]) -> None:
        """No proposed technique is missing from `offers`."""
        for setting in settings:
            for method in engine.methods(*setting):
                assert all(isinstance(technique, engine.offers) for technique in method.techniques)

    def test_no_proposed_method_conflicts(self, engine: Engine, settings: list[Case]) -> None:
        """Nothing proposed is known to fail or to do nothing."""
        for model, hardware, workload in settings:
            for method in engine.methods(model, hardware, workload):
                effects = {finding.effect for finding in check(method, model, workload, hardware)}
                assert not effects & {"conflict", "no_effect"}

    def test_every_method_launches(self, engine: Engine, settings: list[Case]) -> None:
        """A launch has a program and no blank or placeholder argument; its command splits back."""
        for model, hardware, workload in settings:
            for method in engine.methods(model, hardware, workload):
                launch = engine.launch(model, method, hardware, workload)
                assert launch.argv and all(argument.strip() for argument in launch.argv)
                assert not [a for a in launch.argv if any(mark in a for mark in PLACEHOLDERS)]
                assert shlex.split(launch.command)[-len(launch.argv) :] == list(launch.argv)
                assert all(name in launch.argv for name in launch.files)

    def test_launch_is_deterministic(self, engine: Engine, settings: list[Case]) -> None:
        """The same question gives the same command."""
        for model, hardware, workload in settings:
            for method in engine.methods(model, hardware, workload):
                first = engine.launch(model, method, hardware, workload)
                assert first == engine.launch(model, method, hardware, workload)

    def test_every_technique_shows(self, engine: Engine, settings: list[Case]) -> None:
        """Taking any technique away changes the command, its files or its notes."""
        for model, hardware, workload in settings:
            for method in engine.methods(model, hardware, workload):
                whole = engine.launch(model, method, hardware, workload)
                for technique in method.techniques:
                    less = engine.launch(model, _without(method, technique), hardware, workload)
                    assert less != whole, f"{technique.kind} leaves no trace in {whole.command}"

    def test_a_server_listens_where_it_is_told(self, engine: Engine) -> None:
        """The words that are added to a launch hold the host and the port, each once."""
        if not isinstance(engine, ServingEngine):
            pytest.skip(f"{engine.name} is no server")
        words = engine.address("127.0.0.9", 8123)
        assert words.count("127.0.0.9") == 1 and words.count("8123") == 1
        assert all(word.strip() for word in words)
        assert engine.health.startswith("/") and (engine.metrics or "/").startswith("/")

    def test_nothing_read_is_no_evidence(self, engine: Engine, settings: list[Case]) -> None:
        """Empty texts say nothing: they contradict no method, and prove none of its techniques."""
        if not isinstance(engine, ServingEngine):
            pytest.skip(f"{engine.name} is no server")
        assert engine.evidence(Reading()) == Evidence()
        for method in engine.methods(*settings[0]):
            assert contradictions(method, Evidence()) == ()
            assert list(unproven(method, Evidence())) == [item.kind for item in method.techniques]

    def test_garbage_is_no_evidence(self, engine: Engine) -> None:
        """Texts of no known format raise nothing and say nothing."""
        if not isinstance(engine, ServingEngine):
            pytest.skip(f"{engine.name} is no server")
        for text in GARBAGE:
            assert engine.evidence(Reading(log=text, before=text, after=text)) == Evidence(), text

    def test_refuses_what_it_does_not_offer(self, engine: Engine, settings: list[Case]) -> None:
        """A technique outside `offers` is NotSupported, and the error names what there is."""
        if Disaggregation in engine.offers:
            pytest.skip(f"{engine.name} offers disaggregation")
        model, hardware, workload = settings[0]
        method = Method(engine=engine.name, techniques=(Disaggregation(),))
        with pytest.raises(NotSupported) as caught:
            engine.launch(model, method, hardware, workload)
        for offered in engine.offers:
            assert kind_of(offered) in str(caught.value)

    def test_serves_the_other_modality_with_nothing(self, engine: Engine, settings: list[Case]) -> None:
        """An engine for text proposes nothing for images, and the other way round."""
        served = settings[0][0].modality
        others = image_cases() if served in ("text", "multimodal") else text_cases()
        assert all(engine.methods(*other) == [] for other in others)


def _without(method: Method, technique: Technique) -> Method:
    kept = tuple(item for item in method.techniques if item is not technique)
    return Method(engine=method.engine, engine_version=method.engine_version, techniques=kept)
