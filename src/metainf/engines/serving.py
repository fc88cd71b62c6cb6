"""What the serving engines share: one table of words for each, and one way from a method to a launch.

An engine of its own states its `Words` and overrides the steps in which it differs. The steps run in the
order of `launch`; each adds to the `Command` in the making.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from metainf.domain import (
    AttentionBackend,
    Batching,
    ChunkedPrefill,
    Compile,
    Device,
    Flags,
    Hardware,
    KvQuantization,
    Method,
    Model,
    NotSupported,
    Parallelism,
    Precision,
    PrefixCache,
    Speculative,
    WeightQuantization,
    Workload,
)
from metainf.engines.candidates import ANY_WORKLOAD, Choices, proposals
from metainf.engines.command import Command, Words
from metainf.engines.device_support import at_least, computes_fp8
from metainf.engines.evidence import Evidence, Reading
from metainf.engines.formats import canonical, checkpoint_format, is_gguf
from metainf.engines.launch import (
    Launch,
    checkpoint,
    degrees,
    dtype_name,
    finding_notes,
    known_context_tokens,
    not_offered,
    require_offered,
)

SERVED: tuple[type, ...] = (
    Batching,
    ChunkedPrefill,
    PrefixCache,
    Speculative,
    WeightQuantization,
    KvQuantization,
    Precision,
    Parallelism,
    AttentionBackend,
    Compile,
    Flags,
)
_WEIGHTS = {
    "fp8": WeightQuantization(format="fp8", bits=8, activation_bits=8),
    "awq": WeightQuantization(format="awq", bits=4, activation_bits=16),
    "nvfp4": WeightQuantization(format="nvfp4", bits=4, activation_bits=4),
    "int8": WeightQuantization(format="int8", bits=8, activation_bits=8),
}


class ServingEngine(ABC):
    """A server of language models. Subclasses give the names, the words and `serves`."""

    name: str
    title: str
    words: ClassVar[Words]
    offers: tuple[type, ...] = SERVED
    health: str = "/health"
    metrics: str | None = "/metrics"
    forgets: str | None = None
    """Where a POST empties its prefix cache, so that runs may share a start; None where each needs one."""
    context_step: ClassVar[int] = 1
    """What is measured starts with a context of a multiple of it, so that traffics may share one start."""

    @abstractmethod
    def serves(self, device: Device) -> bool:
        """Whether the engine has kernels for a device."""

    def choices(self, device: Device) -> Choices:
        """What the candidate list varies on a device."""
        return Choices(
            engine=self.name,
            formats=lambda _, it: [_WEIGHTS[name] for name, runs in self.words.proposed.items() if runs(it)],
            kv_formats=lambda it: ("fp8",) if computes_fp8(it) else (),
            speculative=("ngram", "eagle3", "mtp"),
            chunk_tokens=(2048, 8192),
        )

    def methods(self, model: Model, hardware: Hardware, workload: Workload = ANY_WORKLOAD) -> list[Method]:
        """Candidate methods; none for image models or devices without kernels of this engine."""
        if model.modality not in ("text", "multimodal") or not self.serves(hardware.device):
            return []
        return proposals(self.choices(hardware.device), model, hardware, workload)

    def launch(self, model: Model, method: Method, hardware: Hardware, workload: Workload) -> Launch:
        """The server's command line. NotSupported for settings it lacks."""
        require_offered(self.name, method, self.offers)
        command = Command(model, method, hardware, workload, argv=list(self.words.program))
        self.start(command)
        if (layout := method.get(Parallelism)) is not None:
            self.spread(command, layout)
        self.weigh(command)
        self.batch(command)
        self.cache(command)
        if (speculative := method.get(Speculative)) is not None:
            self.speculate(command, speculative)
        self.compute(command)
        self.limit(command)
        files = {}
        if command.options:
            files[self.words.options_file] = json.dumps(command.options, indent=2, sort_keys=True) + "\n"
            command.add(self.words.options_flag, self.words.options_file)
        if (flags := method.get(Flags)) is not None:
            command.add(*flags.values)
        notes = [*command.notes, *finding_notes(method, model, workload, hardware)]
        return Launch(argv=tuple(command.argv), env=command.env, files=files, notes=tuple(notes))

    def address(self, host: str, port: int) -> tuple[str, ...]:
        """The words that make it listen there, added to a launch that is to be measured."""
        return "--host", host, "--port", str(port)

    def evidence(self, reading: Reading) -> Evidence:
        """What its log and metrics say that it did."""
        return Evidence()

    def start(self, command: Command) -> None:
        """The program's first argument: the model."""
        command.add(checkpoint(command.model))

    def spread(self, command: Command, layout: Parallelism) -> None:
        """Flags of the parallel degrees; of those that are one, only the tensor degree is written."""
        if layout.sequence is not None or ((layout.data or 1) > 1 and self.words.data is None):
            wanted = (
                f"sequence parallelism {layout.sequence}" if layout.sequence else "data-parallel replicas"
            )
            raise not_offered(self.name, wanted, self.words.layouts)
        tensor, pipeline, data = degrees(layout, self.ranks(command.hardware))
        command.add(self.words.tensor, tensor)
        command.add(self.words.pipeline, pipeline if pipeline > 1 else None)
        command.add(self.words.data, data if data > 1 else None)

    def ranks(self, hardware: Hardware) -> int | None:
        """How far a model can be spread; None where nothing here bounds it."""
        return hardware.count

    def weigh(self, command: Command) -> None:
        """Flags of the arithmetic and the weights."""
        if (precision := command.get(Precision)) is not None:
            command.add("--dtype", dtype_name(precision.dtype))
        if (wanted := self.wanted_weights(command)) is not None:
            command.add(*self.weight_flags(command, wanted.format))

    def weight_flags(self, command: Command, wanted: str) -> tuple[str, ...]:
        """Flags of quantized weights, and a note on where they come from."""
        model, name = command.model.name, canonical(wanted)
        if is_gguf(wanted):
            command.notes.append(f"needs a GGUF file of {model} in {wanted}: give its path as the model")
            return self.words.gguf
        word = self.word("weight format", wanted, self.words.weights, name)
        marlin = name in ("awq", "gptq") and at_least(command.hardware.device, 8)
        made = f"{name} weights are made from the original checkpoint while loading"
        needed = f"needs a checkpoint of {model} quantized to {wanted}"
        command.notes.append(made if name in self.words.online else needed)
        return "--quantization", f"{word}_marlin" if marlin else word

    def wanted_weights(self, command: Command) -> WeightQuantization | None:
        """The weight quantization asked for; None where the checkpoint is stored so already."""
        wanted = command.get(WeightQuantization)
        if wanted is None or canonical(wanted.format) != checkpoint_format(command.model):
            return wanted
        command.notes.append(f"the checkpoint is stored in {wanted.format} already")
        return None

    @abstractmethod
    def batch(self, command: Command) -> None:
        """Flags of batching and chunked prefill."""

    def batch_continuously(self, command: Command) -> Batching | None:
        """The bound on concurrent sequences, for engines that always batch continuously."""
        batching = command.get(Batching)
        if batching is not None:
            if batching.mode != "continuous":
                raise not_offered(self.name, f"{batching.mode} batching", ["continuous batching"])
            command.notes.append("continuous batching is always on")
            command.add(self.words.sequences, batching.max_sequences)
        return batching

    def step_tokens(self, command: Command) -> int | None:
        """The one token limit of a step, which batching and chunked prefill share here."""
        batching, chunked = command.get(Batching), command.get(ChunkedPrefill)
        tokens = {t for t in (batching and batching.max_tokens, chunked and chunked.tokens) if t}
        if len(tokens) > 1:
            raise NotSupported(
                f"{self.name} has one token limit per step, found two: {sorted(tokens)}: give one of them"
            )
        return tokens.pop() if tokens else None

    def cache(self, command: Command) -> None:
        """Flags of the prefix cache and of the key-value cache's number format."""
        if (prefix := command.get(PrefixCache)) is not None:
            if prefix.tier is not None and prefix.tier not in self.words.cache_tiers:
                tiers = [f"{tier} tier" for tier in self.words.cache_tiers]
                raise not_offered(self.name, f"a prefix cache on the {prefix.tier} tier", tiers)
            self.keep_prefixes(command, prefix)
        if (cache := command.get(KvQuantization)) is not None:
            self.quantize_cache(command, self.word("cache format", cache.format, self.words.caches))

    @abstractmethod
    def keep_prefixes(self, command: Command, prefix: PrefixCache) -> None:
        """Flags of a prefix cache on a tier that the engine has."""

    def quantize_cache(self, command: Command, word: str) -> None:
        """Flags of a smaller number format of the cache."""
        command.add("--kv-cache-dtype", word)

    @abstractmethod
    def speculate(self, command: Command, speculative: Speculative) -> None:
        """Flags of speculative decoding."""

    def algorithm(self, speculative: Speculative) -> str:
        """The engine's word for the algorithm; NotSupported where its draft model is missing."""
        word = self.word("speculative algorithm", speculative.algorithm, self.words.speculative)
        if word in self.words.drafted and speculative.draft_model is None:
            raise NotSupported(
                f"{self.name} needs a draft model for {speculative.algorithm}: "
                "name one in draft_model, or use ngram"
            )
        return word

    @abstractmethod
    def compute(self, command: Command) -> None:
        """Flags of attention kernels and compilation."""

    def limit(self, command: Command) -> None:
        """The flag of the longest request, where the workload states it."""
        command.add(self.words.context, known_context_tokens(command.workload))

    def word(self, what: str, found: str, words: Mapping[str, str], name: str | None = None) -> str:
        """The engine's word for a setting. NotSupported names what it has instead."""
        word = words.get(found.lower() if name is None else name)
        if word is None:
            raise not_offered(self.name, f"{what} {found}", words)
        return word
