"""The program that draws by a method: plain diffusers, to be read, kept and changed."""

from metainf.domain import (
    AttentionBackend,
    Autoencoder,
    Batching,
    Compile,
    Device,
    DistilledModel,
    FusedQkv,
    MemoryFormat,
    MemoryMode,
    Method,
    Model,
    Precision,
    Schedule,
    WeightQuantization,
    Workload,
)
from metainf.engines.device_support import maker
from metainf.engines.launch import checkpoint, dtype_name, not_offered
from metainf.engines.students import Student, student

PLAIN = "plain"
QUANTIZERS = {
    "int8dq": "Int8DynamicActivationInt8WeightConfig",
    "int8wo": "Int8WeightOnlyConfig",
    "int4wo": "Int4WeightOnlyConfig",
    "fp8dq": "Float8DynamicActivationFloat8WeightConfig",
}
BACKENDS = {"sdpa": "native", "flash": "flash", "flash3": "_flash_3", "sage": "sage", "xformers": "xformers"}
OFFLOADS = {
    "model-cpu-offload": "enable_model_cpu_offload()",
    "sequential-cpu-offload": "enable_sequential_cpu_offload()",
}
SCHEDULES: dict[str, tuple[str, dict[str, str]]] = {
    "ddim": ("DDIMScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "turbo": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "euler": ("EulerDiscreteScheduler", {}),
    "dpm": ("DPMSolverMultistepScheduler", {}),
}
"""Our name of a solver -> the class of diffusers, and what is set beside its old configuration."""
_TINY_OF = {
    "madebyollin/taesd": ("StableDiffusionPipeline", "SD1.x", "SD2.x", "SD1.x-distilled"),
    "madebyollin/taesdxl": ("StableDiffusionXLPipeline", "SDXL", "SDXL-distilled", "PixArt"),
    "madebyollin/taesd3": ("StableDiffusion3Pipeline", "SD3"),
    "madebyollin/taef1": ("FluxPipeline", "FLUX.1"),
}
TINY = {family: name for name, families in _TINY_OF.items() for family in families}
"""Family or pipeline -> the published distilled autoencoder of its latent space (model cards of
madebyollin)."""


def target(device: Device) -> str:
    """PyTorch's name of the device."""
    return {"cpu": "cpu", "apple": "mps", "intel": "xpu"}.get(maker(device), "cuda")


def program(model: Model, method: Method, device: Device, workload: Workload) -> list[str]:
    """The lines of the program. NotSupported for steps that diffusers lacks."""
    precision, offload = method.get(Precision), method.get(MemoryMode)
    where, dtype = target(device), "torch.float32"
    if precision is not None:
        name = "float32" if precision.dtype == "tf32" else dtype_name(precision.dtype)
        dtype = f"torch.{name}"
    lines = ["from diffusers import DiffusionPipeline"]
    if precision is not None and precision.dtype == "tf32":
        lines.append('torch.set_float32_matmul_precision("high")')
    given = "" if precision is None else f", torch_dtype={dtype}"
    drawer = _whole(method)
    loaded = checkpoint(model) if drawer is None else drawer.model
    lines.append(f"pipe = DiffusionPipeline.from_pretrained({loaded!r}{given})")
    lines.append('part = "transformer" if getattr(pipe, "transformer", None) is not None else "unet"')
    lines += _replaced(model, method, dtype)
    if offload is None:
        lines.append(f"pipe.to({where!r})")
    elif offload.name not in OFFLOADS:
        raise not_offered("diffusers", f"memory mode {offload.name}", OFFLOADS)
    lines += _denoiser_steps(method)
    if offload is not None:
        lines.append(f"pipe.{OFFLOADS[offload.name]}")
    lines += _drawing(model, method, workload)
    other = method.get(DistilledModel)
    named = model.name if other is None else f"{other.model} in place of {model.name}"
    needs = f"# {named}; needs: pip install {' '.join(_packages(method))}"
    imports = sorted({line for line in lines if line.startswith("from ")})
    rest = [line for line in lines if line not in imports]
    return [needs, "import sys", "", "import torch", *imports, "", *rest]


def _whole(method: Method) -> Student | None:
    """The known student that draws in the model's place as a pipeline of its own."""
    drawer = method.get(DistilledModel)
    known = None if drawer is None else student(drawer.model)
    return known if known is not None and known.whole else None


def _packages(method: Method) -> list[str]:
    """What the program imports, and what these load models with."""
    found = ["torch", "diffusers", "transformers", "accelerate"]
    quantized = method.get(WeightQuantization)
    return [*found, "torchao"] if quantized is not None and quantized.format in QUANTIZERS else found


def _replaced(model: Model, method: Method, dtype: str) -> list[str]:
    """Parts that other ones stand in for: the denoiser, the decoder, the solver."""
    lines: list[str] = []
    if (drawer := method.get(DistilledModel)) is not None and _whole(method) is None:
        where = "" if student(drawer.model) is not None else " subfolder=part,"
        lines += [
            "kind = type(getattr(pipe, part))",
            f"student = kind.from_pretrained({drawer.model!r},{where} torch_dtype={dtype})",
            "setattr(pipe, part, student)",
        ]
    if (decoder := method.get(Autoencoder)) is not None:
        name = TINY.get(model.family or "") if decoder.name == "tiny" else decoder.name
        if name is None:
            raise not_offered("diffusers", f"a tiny autoencoder of {model.name}", sorted(set(TINY)))
        lines.append("from diffusers import AutoencoderTiny")
        lines.append(f"pipe.vae = AutoencoderTiny.from_pretrained({name!r}, torch_dtype={dtype})")
    if (schedule := method.get(Schedule)) is not None and schedule.name is not None:
        if schedule.name.lower() not in SCHEDULES:
            raise not_offered("diffusers", f"schedule {schedule.name}", SCHEDULES)
        kind, more = SCHEDULES[schedule.name.lower()]
        lines.append(f"from diffusers import {kind}")
        words = "".join(f", {key}={value!r}" for key, value in more.items())
        lines.append(f"pipe.scheduler = {kind}.from_config(pipe.scheduler.config{words})")
    return lines


def _denoiser_steps(method: Method) -> list[str]:
    lines: list[str] = []
    if (backend := method.get(AttentionBackend)) is not None:
        lines += _attention(backend.name.lower())
    if (fused := method.get(FusedQkv)) is not None:
        step = "getattr(pipe, part).fuse_qkv_projections()"
        lines.append(step if fused.enabled else "# query, key and value stay apart")
    if (quantized := method.get(WeightQuantization)) is not None:
        lines += _quantized(quantized.format.lower())
    if (order := method.get(MemoryFormat)) is not None:
        if order.name != "channels_last":
            raise not_offered("diffusers", f"memory format {order.name}", ["channels_last"])
        lines.append("getattr(pipe, part).to(memory_format=torch.channels_last)")
    if (compiled := method.get(Compile)) is not None:
        step = 'getattr(pipe, part).compile(mode="max-autotune", fullgraph=True)'
        lines.append(step if compiled.enabled else "# not compiled")
    return lines


def _attention(name: str) -> list[str]:
    if name == PLAIN:
        return [
            "# no fused attention kernel: plain products",
            "torch.backends.cuda.enable_flash_sdp(False)",
            "torch.backends.cuda.enable_mem_efficient_sdp(False)",
            "torch.backends.cuda.enable_cudnn_sdp(False)",
        ]
    if name not in BACKENDS:
        raise not_offered("diffusers", f"attention backend {name}", (*BACKENDS, PLAIN))
    if name == "sdpa":
        return ["# attention is PyTorch's scaled_dot_product_attention, the library's own choice"]
    return [f"getattr(pipe, part).set_attention_backend({BACKENDS[name]!r})"]


def _quantized(name: str) -> list[str]:
    if name == "qint8":
        return [
            "torch.ao.quantization.quantize_dynamic(",
            "    getattr(pipe, part), {torch.nn.Linear}, dtype=torch.qint8, inplace=True",
            ")",
        ]
    config = QUANTIZERS.get(name)
    if config is None:
        raise not_offered("diffusers", f"weight format {name}", (*QUANTIZERS, "qint8"))
    return [
        f"from torchao.quantization import {config}, quantize_",
        f"quantize_(getattr(pipe, part), {config}())",
    ]


def _drawing(model: Model, method: Method, workload: Workload) -> list[str]:
    batch, schedule = batch_of(method, workload), method.get(Schedule)
    steps = (schedule.steps if schedule is not None else None) or workload.steps or model.default_steps
    settings: dict[str, object] = {
        "height": workload.height_px, "width": workload.width_px, "num_inference_steps": steps,
    }  # fmt: skip
    if schedule is not None and schedule.guided is False:
        settings["guidance_scale"] = 0.0 if schedule.name == "turbo" else 1.0
    keywords = "".join(f", {key}={value}" for key, value in settings.items() if value is not None)
    return [
        "prompts = [line.strip() for line in sys.stdin if line.strip()]",
        f"for start in range(0, len(prompts), {batch}):",
        f"    images = pipe(prompts[start : start + {batch}]{keywords}).images",
        "    for offset, image in enumerate(images):",
        '        image.save(f"image-{start + offset:05d}.png")',
    ]


def batch_of(method: Method, workload: Workload) -> int:
    """Pictures drawn together. NotSupported for batching that is not static."""
    batching = method.get(Batching)
    if batching is None:
        return workload.batch_size or 1
    if batching.mode not in ("none", "static"):
        raise not_offered("diffusers", f"{batching.mode} batching", ["static batching", "none"])
    return 1 if batching.mode == "none" else batching.max_sequences or workload.batch_size or 1
