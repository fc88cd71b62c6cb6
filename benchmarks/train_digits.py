"""Trains the models that draw digits, and writes them into the package: `python benchmarks/train_digits.py`.

`digits` learns to remove noise from real digits, with and without their class. `digits-few` is distilled from
it in two ways that are usual for diffusion models: first it learns to give in one pass what guidance makes of
two (Meng et al., "On Distillation of Guided Diffusion Models", 2023), then one of its steps to do the work of
two, twice over (Salimans and Ho, "Progressive Distillation for Fast Sampling of Diffusion Models", 2022):
8 steps become 4, and 4 become 2. `digits-small`, half as wide, learns from the noise that `digits` sees in
real digits. All are judged by how like other real digits theirs are (`metainf.measure.resembling`).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from safetensors.torch import load_file, save_file

from metainf.catalog.digits import EDGE_PX, PATCH_PX
from metainf.hosts.digits import GUIDANCE, NO_CLASS, SCHEDULE, DigitsPipeline, speed
from metainf.measure.recognising import own_accuracy, parts
from metainf.measure.resembling import own_resemblance, resemblance

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "src" / "metainf" / "catalog" / "data" / "digits"
WIDE, NARROW = (6, 16, 3), (3, 16, 2)
"""Heads, their width, and layers."""
BATCH, RATE, DROPPED, DECAY = 64, 1e-3, 0.15, 0.995
STEPS = {"digits": 1000, "digits-few": 250, "digits-small": 600}
"""Of each training; `digits-few` has three."""
KEPT_EVERY = 50
SCRATCH = ROOT / "build" / "digits"
"""Where a training that was stopped goes on; to be removed before one anew."""
FEW_STAGES = ((8, 4), (4, 2))
JUDGED, JUDGED_STEPS = 200, (20, 4, 2, 1)
Tensor = Any


def config(widths: tuple[int, int, int]) -> dict[str, Any]:
    """The network: a transformer over patches, the moment and the class."""
    heads, width, layers = widths
    patches = (EDGE_PX // PATCH_PX) ** 2
    return {
        "num_attention_heads": heads, "attention_head_dim": width, "num_layers": layers,
        "embedding_dim": PATCH_PX**2, "num_embeddings": patches, "additional_embeddings": 2,
        "encoder_hid_proj_type": None, "added_emb_type": None, "embedding_proj_dim": NO_CLASS + 1,
    }  # fmt: skip


class Noise:
    """The schedule: shares of picture and noise at each of its moments; at -1 there is no noise."""

    def __init__(self) -> None:
        kept = diffusers.DDIMScheduler(**SCHEDULE).alphas_cumprod
        self.picture = torch.cat([kept.sqrt(), torch.ones(1)])
        self.noise = torch.cat([(1 - kept).sqrt(), torch.zeros(1)])

    def at(self, moment: Tensor) -> tuple[Tensor, Tensor]:
        return self.picture[moment][:, None, None, None], self.noise[moment][:, None, None, None]

    def step(self, z: Tensor, v: Tensor, now: Tensor, then: Tensor) -> Tensor:
        """One deterministic step (DDIM) from one moment to an earlier one."""
        a, s = self.at(now)
        b, r = self.at(then)
        return b * (a * z - s * v) + r * (s * z + a * v)


class Training:
    """Data, one network that learns, and the running mean of its weights."""

    def __init__(
        self, widths: tuple[int, int, int], seed: int, start: dict[str, Tensor] | None = None
    ) -> None:
        torch.manual_seed(seed)
        self.source = torch.Generator().manual_seed(seed)
        taught = parts()[0]
        self.pictures = torch.from_numpy(taught.pictures)[:, None] * 2 - 1
        self.labels = torch.from_numpy(taught.labels)
        self.noise = Noise()
        self.net = diffusers.PriorTransformer(**config(widths))
        if start is not None:
            self.net.load_state_dict(start)
        self.mean = {name: value.clone() for name, value in self.net.state_dict().items()}

    def batch(self) -> tuple[Tensor, Tensor]:
        """Digits and their labels."""
        rows = torch.randint(len(self.labels), (BATCH,), generator=self.source)
        return self.pictures[rows], self.labels[rows]

    def noisy(self, x: Tensor, moment: Tensor) -> tuple[Tensor, Tensor]:
        e = torch.randn(x.shape, generator=self.source)
        a, s = self.noise.at(moment)
        return a * x + s * e, a * e - s * x

    def run(self, loss_of: Any, steps: int, rate: float, words: str) -> None:
        """Descend for so many steps, the rate falling to nothing. Goes on where it was stopped."""
        optimiser = torch.optim.AdamW(self.net.parameters(), lr=rate, weight_decay=0.01)
        file, step, losses = SCRATCH / f"{words.replace(' ', '-')}.pt", 0, []
        if file.exists():
            held = torch.load(file, weights_only=True)
            self.net.load_state_dict(held["net"])
            self.mean, step, losses = held["mean"], held["step"], held["losses"]
            optimiser.load_state_dict(held["optimiser"])
            self.source.set_state(held["source"])
        while step < steps:
            for group in optimiser.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / 50) * (1 - step / steps)
            loss = loss_of()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            optimiser.step()
            decay = min(DECAY, (step + 1) / (step + 10))
            with torch.no_grad():
                for name, value in self.net.state_dict().items():
                    self.mean[name].lerp_(value, 1 - decay)
            losses.append(loss.item())
            step += 1
            if step % KEPT_EVERY == 0 or step == steps:
                held = {"net": self.net.state_dict(), "mean": self.mean, "step": step, "losses": losses}
                held |= {"optimiser": optimiser.state_dict(), "source": self.source.get_state()}
                torch.save(held, file)
        print(
            f"{words}: {step} steps, loss {np.mean(losses[:20]):.4f} to {np.mean(losses[-50:]):.4f}",
            flush=True,
        )


def train_teacher() -> dict[str, Tensor]:
    """Noise and real digits, with a class or (one time in seven) without."""
    made = Training(WIDE, 1)

    def loss() -> Tensor:
        x, labels = made.batch()
        moment = torch.randint(1000, (BATCH,), generator=made.source)
        z, v = made.noisy(x, moment)
        dropped = torch.rand(BATCH, generator=made.source) < DROPPED
        return torch.nn.functional.mse_loss(speed(made.net, z, moment, labels.where(~dropped, NO_CLASS)), v)

    made.run(loss, STEPS["digits"], RATE, "digits")
    return made.mean


def guided(net: Any, z: Tensor, moment: Tensor, labels: Tensor) -> Tensor:
    """What guidance makes of two passes, with a class and without."""
    both = torch.cat([labels, torch.full_like(labels, NO_CLASS)])
    out = speed(net, torch.cat([z, z]), torch.cat([moment, moment]), both)
    told, untold = out.chunk(2)
    return untold + GUIDANCE * (told - untold)


def train_few(teacher: Any) -> dict[str, Tensor]:
    """One pass for two, then one step for two, twice over."""
    made = Training(WIDE, 2, teacher.state_dict())

    def one_pass() -> Tensor:
        x, labels = made.batch()
        moment = torch.randint(1000, (BATCH,), generator=made.source)
        z, _ = made.noisy(x, moment)
        with torch.no_grad():
            wanted = guided(teacher, z, moment, labels)
        return torch.nn.functional.mse_loss(speed(made.net, z, moment, labels), wanted)

    made.run(one_pass, STEPS["digits-few"], RATE / 2, "digits-few, one pass for two")
    for many, few in FEW_STAGES:
        made = halved(made.mean, many, few)
    return made.mean


def halved(start: dict[str, Tensor], many: int, few: int) -> Training:
    """A student whose steps each do the work of two of what it starts from."""
    master = diffusers.PriorTransformer(**config(WIDE)).eval().requires_grad_(False)
    master.load_state_dict(start)
    made = Training(WIDE, 10 + few, start)
    noise, stride = made.noise, 1000 // many

    def loss() -> Tensor:
        x, labels = made.batch()
        now = 1000 - 2 * stride * torch.randint(few, (BATCH,), generator=made.source) - 1
        half, then = now - stride, (now - 2 * stride).clamp(min=-1)
        z, _ = made.noisy(x, now)
        with torch.no_grad():
            between = noise.step(z, speed(master, z, now, labels), now, half)
            after = noise.step(between, speed(master, between, half, labels), half, then)
            (a, s), (b, r) = noise.at(now), noise.at(then)
            clean = (after - r / s * z) / (b - r / s * a)
            wanted = (a * z - clean) / s
        found = speed(made.net, z, now, labels)
        weight = (s**2).clamp(min=0.1)
        return (weight * (found - wanted) ** 2).mean()

    made.run(loss, STEPS["digits-few"], RATE / 2, f"digits-few, {few} steps for {many}")
    return made


def train_small(teacher: Any) -> dict[str, Tensor]:
    """What the teacher sees in noisy digits, with and without their class."""
    made = Training(NARROW, 3)

    def loss() -> Tensor:
        x, labels = made.batch()
        moment = torch.randint(1000, (BATCH,), generator=made.source)
        z, _ = made.noisy(x, moment)
        dropped = torch.rand(BATCH, generator=made.source) < DROPPED
        labels = labels.where(~dropped, NO_CLASS)
        with torch.no_grad():
            wanted = speed(teacher, z, moment, labels)
        return torch.nn.functional.mse_loss(speed(made.net, z, moment, labels), wanted)

    made.run(loss, STEPS["digits-small"], 2 * RATE, "digits-small")
    return made.mean


def quality(net: Any, steps: int, guidance: float) -> float:
    labels = [place % 10 for place in range(JUDGED)]
    pipe = DigitsPipeline(net, diffusers.DDIMScheduler(**SCHEDULE))
    with torch.inference_mode():
        drawn = pipe(
            [str(label) for label in labels], steps, guidance,
            [torch.Generator().manual_seed(1000 + place) for place in range(len(labels))],
        ).images  # fmt: skip
    found = resemblance(drawn, labels)
    assert found is not None, "as many of each class as are judged"
    return round(found.f1, 3)


def judges() -> dict[str, float]:
    """What real digits reach that the models never saw, and as many as are drawn of those that they did."""
    most = own_resemblance(JUDGED // NO_CLASS)
    assert most is not None
    return {"classifier_accuracy": round(own_accuracy(), 4), "real_resemblance": round(most.f1, 4)}


def loaded(name: str, widths: tuple[int, int, int]) -> Any:
    net = diffusers.PriorTransformer(**config(widths)).eval().requires_grad_(False)
    held = load_file(FOLDER / f"{name}.safetensors")
    net.load_state_dict({key: value.float() for key, value in held.items()})
    return net


def keep(name: str, weights: dict[str, Tensor], widths: tuple[int, int, int]) -> None:
    """Write weights in half precision, and the network into the index."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    halves = {key: value.half().contiguous() for key, value in weights.items()}
    save_file(halves, FOLDER / f"{name}.safetensors")
    index = FOLDER / "index.json"
    rows = json.loads(index.read_text(encoding="utf-8"))["rows"] if index.exists() else []
    row = {"name": name, "params": sum(value.numel() for value in weights.values()), "config": config(widths)}
    rows = sorted([each for each in rows if each["name"] != name] + [row], key=lambda each: str(each["name"]))
    told = {**judges(), "rows": rows}
    index.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--only", choices=("digits", "digits-few", "digits-small"))
    words = asked.parse_args()
    SCRATCH.mkdir(parents=True, exist_ok=True)
    print(f"the classifier on real digits: {own_accuracy():.3f}")
    if words.only in (None, "digits"):
        keep("digits", train_teacher(), WIDE)
    teacher = loaded("digits", WIDE)
    if words.only in (None, "digits-few"):
        keep("digits-few", train_few(teacher), WIDE)
    if words.only in (None, "digits-small"):
        keep("digits-small", train_small(teacher), NARROW)
    drawers = {"digits": (WIDE, GUIDANCE), "digits-few": (WIDE, 1.0), "digits-small": (NARROW, GUIDANCE)}
    for name, (widths, guidance) in drawers.items():
        if words.only in (None, name):
            net = loaded(name, widths)
            told = {steps: quality(net, steps, guidance) for steps in JUDGED_STEPS}
            print(f"{name}: likeness to real digits by steps {told}")


if __name__ == "__main__":
    main()
