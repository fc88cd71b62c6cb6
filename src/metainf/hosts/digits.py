"""A pipeline that draws handwritten digits of 8 × 8 pixels: small, really trained, and so with a quality to
lose.

A prompt is a digit, "0" to "9". `digits` is the trained model, `digits-few` was distilled from it to draw in
few steps without guidance, `digits-small` is a narrower network distilled from it. How they were trained:
`benchmarks/train_digits.py`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from metainf.catalog.digits import CLASSES, EDGE_PX, PATCH_PX, digits, weights_of
from metainf.domain import BadInput
from metainf.hosts.diffusers_load import Loaded
from metainf.hosts.diffusers_weights import sampled

GUIDANCE = 2.0
NO_CLASS = CLASSES
"""The label of a pass without guidance."""
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "timestep_spacing": "trailing",
    "set_alpha_to_one": True,
}


class DigitsPipeline:
    """Noise to digits, called as diffusers' pipelines are."""

    vae = None

    def __init__(self, transformer: Any, scheduler: Any) -> None:
        self.transformer, self.scheduler = transformer, scheduler

    def to(self, device: Any) -> "DigitsPipeline":
        self.transformer.to(device)
        return self

    def set_progress_bar_config(self, **given: Any) -> None:
        """There is no bar."""

    def __call__(
        self,
        prompt: Sequence[str],
        num_inference_steps: int = 20,
        guidance_scale: float = GUIDANCE,
        generator: Sequence[Any] | None = None,
        callback_on_step_end: Callable[..., Any] | None = None,
        **more: Any,
    ) -> Any:
        """Pictures (n, 8, 8, 1) in 0..1. BadInput for a prompt that is no digit, and for other pixels."""
        import torch
        from diffusers.utils.torch_utils import randn_tensor

        for name in ("height", "width"):
            if more.get(name) not in (None, EDGE_PX):
                raise BadInput(f"expected {EDGE_PX} pixels of {name}, found {more[name]}")
        device, dtype = self.transformer.device, self.transformer.dtype
        labels = torch.tensor([_label(text) for text in prompt], device=device)
        guided = guidance_scale > 1
        shape = (len(labels), 1, EDGE_PX, EDGE_PX)
        picture = randn_tensor(shape, generator=list(generator or []) or None, device=device, dtype=dtype)
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        nothing = torch.full_like(labels, NO_CLASS)
        for place, moment in enumerate(self.scheduler.timesteps):
            if guided:
                both = torch.cat([picture, picture])
                out = speed(self.transformer, both, moment, torch.cat([labels, nothing]))
                told, untold = out.chunk(2)
                out = untold + guidance_scale * (told - untold)
            else:
                out = speed(self.transformer, picture, moment, labels)
            picture = self.scheduler.step(out, moment, picture).prev_sample
            if callback_on_step_end is not None:
                callback_on_step_end(self, place, moment, {"latents": picture})
        shown = ((picture.float() + 1) / 2).clamp(0, 1)
        return type("Output", (), {"images": shown.permute(0, 2, 3, 1).cpu().numpy()})


def speed(transformer: Any, pictures: Any, moment: Any, labels: Any) -> Any:
    """What the network says of noisy pictures (n, 1, 8, 8) at a moment, by their labels (n): the mixture of
    noise and picture that takes noise away (v-prediction). A token for each patch."""
    from torch.nn.functional import one_hot

    count, across = len(pictures), EDGE_PX // PATCH_PX
    tokens = pictures.reshape(count, across, PATCH_PX, across, PATCH_PX).transpose(2, 3)
    tokens = tokens.reshape(count, across**2, PATCH_PX**2)
    told = one_hot(labels, CLASSES + 1).to(pictures.dtype)
    out = transformer(tokens, moment, told).predicted_image_embedding
    out = out.reshape(count, across, across, PATCH_PX, PATCH_PX).transpose(2, 3)
    return out.reshape(count, 1, EDGE_PX, EDGE_PX)


def is_digits(model: str) -> bool:
    """Whether a name is one of the digit models."""
    return model in digits()


def load_digits(model: str, student: str | None, dtype: Any) -> Loaded:
    """The pipeline of one, with the denoiser of a student where one is named."""
    import diffusers
    from safetensors.torch import load_file

    name = student or model
    if name not in digits():
        raise BadInput(f"expected a student of {model}, one of {', '.join(digits())}, found {name}")

    def weights(of: str) -> dict[str, Any]:
        with weights_of(of) as file:
            return {key: value.float() for key, value in load_file(file).items()}

    net = diffusers.PriorTransformer(**digits()[name].config)
    net.load_state_dict(weights(name))
    pipe = DigitsPipeline(net.eval().requires_grad_(False).to(dtype), diffusers.DDIMScheduler(**SCHEDULE))
    size, teacher = None, None
    if student is not None:
        size, teacher = digits()[name].params, sampled(weights(model).items(), dtype)

    def asks(prompts: Sequence[str], guided: bool) -> dict[str, Any]:
        return {"prompt": list(prompts)}

    return Loaded(pipe, "transformer", digits()[model].params, True, asks, size, teacher)


def _label(text: str) -> int:
    if not (text.strip().isdigit() and int(text) < CLASSES):
        raise BadInput(f"expected a digit from 0 to {CLASSES - 1} as the prompt, found {text!r:.80}")
    return int(text)
