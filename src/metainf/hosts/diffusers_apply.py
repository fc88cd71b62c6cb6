"""Acceleration methods put on a pipeline, in the order in which they work together."""

import warnings
from typing import Any

from metainf.domain import BadInput
from metainf.engines.diffusers_script import BACKENDS, OFFLOADS, PLAIN, QUANTIZERS
from metainf.hosts.diffusers_load import Loaded, load, reschedule
from metainf.hosts.diffusers_words import Words

LEAST_WIDTH = 64
"""Of a matrix, both ways, to be computed in eight bits: converting costs more than smaller ones gain."""
SELDOM = ("time_emb", "time_embed", "add_embedding", "class_emb", "norm_out", "context_embedder")
"""Layers that see one row for each picture, or run once; they stay as they are."""
_DTYPES = {"fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def prepared(words: Words) -> Loaded:
    """The pipeline that the words ask for, ready to draw. Raises BadInput for what it cannot do."""
    import torch

    if words.threads is not None:
        torch.set_num_threads(words.threads)
    torch.set_float32_matmul_precision("high" if words.dtype == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = words.dtype == "tf32"
    loaded = load(words.model, words.denoiser, words.autoencoder, getattr(torch, _DTYPES[words.dtype]))
    if words.schedule is not None:
        reschedule(loaded, words.schedule)
    pipe, denoiser = loaded.pipe, loaded.denoiser
    _attend(torch, loaded, words)
    if words.fuse_qkv:
        _fuse(loaded)
    if words.offload is None:
        pipe.to(words.device)
    if words.quantize is not None:
        _quantize(torch, loaded, words)
    if words.memory_format is not None:
        _reorder(torch, loaded)
    if words.offload is not None:
        getattr(pipe, OFFLOADS[words.offload].removesuffix("()"))(device=words.device)
    if words.compile:
        _compile(torch, denoiser, words)
    pipe.set_progress_bar_config(disable=True)
    return loaded


def _attend(torch: Any, loaded: Loaded, words: Words) -> None:
    """Attention by the library's own processor, by one without a fused kernel, or by a backend of diffusers.

    Without a fused kernel: the plain processor where the network has one, and PyTorch's own attention is told
    to take plain products everywhere, also where the network has none.
    """
    name = words.attention
    if name == PLAIN:
        from diffusers.models.attention_processor import AttnProcessor

        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)
        for part in (loaded.denoiser, getattr(loaded.pipe, "vae", None)):
            kinds = {type(each).__name__ for each in getattr(part, "attn_processors", {}).values()}
            if part is not None and kinds == {"AttnProcessor2_0"}:
                part.set_attn_processor(AttnProcessor())
    elif name not in (None, "sdpa"):
        try:
            loaded.denoiser.set_attention_backend(BACKENDS.get(name, name))
        except (AttributeError, ValueError, RuntimeError, ImportError) as error:
            raise BadInput(f"attention {name}: not supported here: {error}") from error


def _fuse(loaded: Loaded) -> None:
    """Query, key and value projections of the denoiser (and of the autoencoder where it can) as one."""
    if not hasattr(loaded.denoiser, "fuse_qkv_projections"):
        kind = type(loaded.denoiser).__name__
        raise BadInput(f"fused projections are not supported by {kind} in this version of diffusers")
    loaded.denoiser.fuse_qkv_projections()
    vae = getattr(loaded.pipe, "vae", None)
    if vae is not None and hasattr(vae, "fuse_qkv_projections"):
        vae.fuse_qkv_projections()


def _quantize(torch: Any, loaded: Loaded, words: Words) -> None:
    """Large linear layers of the denoiser in another format. Pointwise convolutions become linear first."""
    denoiser = loaded.denoiser
    linear_pointwise(torch, denoiser)
    if words.quantize == "qint8":
        chosen = {name for name, layer in denoiser.named_modules() if selected(torch, layer, name)}
        config = torch.ao.quantization.default_dynamic_qconfig
        with warnings.catch_warnings():  # PyTorch points to torchao, whose kernels `int8dq` takes
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.ao.quantization.quantize_dynamic(
                denoiser, dict.fromkeys(chosen, config), dtype=torch.qint8, inplace=True
            )
        return
    import torchao.quantization as quantization

    try:
        config = getattr(quantization, QUANTIZERS[str(words.quantize)])()
        quantization.quantize_(denoiser, config, filter_fn=lambda layer, name: selected(torch, layer, name))
    except (NotImplementedError, RuntimeError, AssertionError, ImportError) as error:
        raise BadInput(f"{words.quantize} is not supported here: {error}") from error


def selected(torch: Any, layer: Any, name: str) -> bool:
    """Whether a layer is worth quantizing: linear, wide both ways, and run for every part of a picture."""
    if not isinstance(layer, torch.nn.Linear) or any(word in name for word in SELDOM):
        return False
    return bool(min(layer.in_features, layer.out_features) >= LEAST_WIDTH)


def linear_pointwise(torch: Any, module: Any) -> int:
    """Replace convolutions of one pixel by linear layers over the channels; how many there were."""
    found = [
        (parent, name, layer)
        for parent in module.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, torch.nn.Conv2d) and _is_pointwise(layer)
    ]
    for parent, name, layer in found:
        setattr(parent, name, _pointwise(torch, layer))
    return len(found)


def _is_pointwise(layer: Any) -> bool:
    plain = layer.kernel_size == layer.stride == (1, 1) and layer.padding in ((0, 0), "valid")
    return bool(plain and layer.groups == 1)


def _pointwise(torch: Any, layer: Any) -> Any:
    """A linear layer with the weights of a pointwise convolution, which takes pictures (n, c, h, w)."""

    class Pointwise(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(layer.in_channels, layer.out_channels, layer.bias is not None)
            self.linear.to(layer.weight)
            self.linear.weight = torch.nn.Parameter(layer.weight.flatten(1), requires_grad=False)
            if layer.bias is not None:
                self.linear.bias = torch.nn.Parameter(layer.bias.detach(), requires_grad=False)

        def forward(self, x: Any) -> Any:
            return self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    return Pointwise()


def _reorder(torch: Any, loaded: Loaded) -> None:
    for part in (loaded.denoiser, getattr(loaded.pipe, "vae", None)):
        if part is not None:
            part.to(memory_format=torch.channels_last)


def _compile(torch: Any, denoiser: Any, words: Words) -> None:
    """Compiled for each shape; a limit on recompiling is lifted, as a worker draws many shapes."""
    torch._dynamo.config.recompile_limit = 64
    mode = "max-autotune-no-cudagraphs" if words.device != "cpu" else None
    denoiser.compile(dynamic=False, mode=mode)
