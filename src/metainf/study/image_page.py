"""The page of the study of pictures, written from its records and never by hand. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metainf.catalog.architectures import SYNTHETIC
from metainf.catalog.digits import TEACHER, classifier_accuracy, real_resemblance
from metainf.domain import Record
from metainf.learn.report import table
from metainf.measure.likeness import MOST_DB, PSNR
from metainf.measure.monitor import BUSY_SHARE
from metainf.measure.recipes import PLAIN
from metainf.measure.resembling import METRIC
from metainf.study.easels import Canvas, Easel, easels
from metainf.study.tables import counted, number, times

HEAD = """# The study of pictures: what each way to draw is worth

This page is written by `metainf study images show --report` from the study's records; none of its numbers is
typed by hand.

## How to read it

* `baseline` draws in fp32, with attention by plain products. Methods are named as `metainf measure` calls
  them; each was seen at work in the pipeline's modules or kernels, else its run is a failure.
{synthetic}
* *Likeness* is the peak signal-to-noise ratio (dB) to the pictures of `baseline` from the same noise;
  {most:g} means equal, above 30 is hard to see. It tells what rounding does, and is not asked of methods that
  draw other pictures of random weights: a student, fewer steps, another decoder. What those cost is
  measured on `digits`, a small model that was really trained, by how *like real* digits the drawn ones are:
  the harmonic mean of the share that could be real (recognised, and among real ones) and of the share of
  real digits that the drawn ones cover. Noise and wrong digits lower the first, drawing alike the second.
* Rates are of the median run. A ratio near 1 may be noise: see the end of the page.
"""
REDUCED = """\
* Models whose names end in `-like/small` are *synthetic*: architectures of published models at reduced size
  with random weights and without text encoders. Their speeds are real, their pictures are noise. Nothing here
  was measured at full size, nor on a GPU."""
FULL = """\
* Models whose names end in `-like/full` are *synthetic*: architectures of published models at their full size
  with random weights and without text encoders; `-like/small` are the same at reduced size. Their speeds are
  real, their pictures are noise."""


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper (section 2.2), and the two methods whose ratio it is about."""

    words: str
    method: str
    against: str


CLAIMS = (
    Claim("a distilled model: up to about 1.5×", "distilled", PLAIN),
    Claim("with a distilled autoencoder: up to about 1.6×", "distilled+tiny-vae", PLAIN),
    Claim("reduced precision (bf16): faster, quality kept", "bf16+sdpa", "sdpa"),
    Claim("scaled dot product attention: faster, accuracy kept", "sdpa", PLAIN),
    Claim("combined projections: faster", "sdpa+fused-qkv", "sdpa"),
    Claim("dynamic int8 (torchao): faster in selected layers", "sdpa+int8", "sdpa"),
    Claim("dynamic int8 (PyTorch's own kernels)", "sdpa+qint8", "sdpa"),
)


def page(records: Sequence[Record], figures: Mapping[str, str] | None = None) -> str:
    """Markdown of the study's records. `figures`: paths by `methods` and `digits`. BadInput where none
    draws."""
    held, drawn = easels(sorted(records, key=_order)), figures or {}
    whole = any(easel.model.endswith("/full") for easel in held)
    head = HEAD.format(most=MOST_DB, synthetic=FULL if whole else REDUCED)
    parts = [head, "## What the paper says, and what is seen here\n", _claims(held)]
    if "methods" in drawn:
        parts.append(f"![Speed of each method over the baseline]({drawn['methods']})\n")
    trained = [easel for easel in held if easel.model == TEACHER]
    if trained:
        parts += ["## What speed costs: trained digits\n", _price(trained[0])]
        if "digits" in drawn:
            parts.append(f"![Recognised digits against images per second]({drawn['digits']})\n")
    parts += [_section(easel) for easel in held]
    parts += ["## How it was measured\n", _circumstances(records)]
    return "\n".join(parts)


def _order(record: Record) -> tuple[bool, str, str]:
    return (
        record.setting.model.name == TEACHER,
        record.provenance.campaign or "",
        f"{record.provenance.date or ''}{record.id}",
    )


def _claims(held: Sequence[Easel]) -> str:
    rows = []
    for claim in CLAIMS:
        for easel in held:
            ratio = easel.mean_ratio(claim.method, claim.against)
            if ratio is not None:
                rows.append(
                    (claim.words, easel.model, f"{times(ratio)} (`{claim.method}` over `{claim.against}`)",
                     _range(easel, claim), _quality(easel.quality(claim.method)))
                )  # fmt: skip
    said = (
        "Ratios of images per second, geometric mean over the drawings. The paper's numbers are of trained "
        "models of full size on GPUs. A student's worth in speed alone is in the first rows; what it costs "
        "is below.\n\n"
    )
    shown = table(("the paper", "model", "measured", "from ... to", "quality"), rows)
    return f"{said}{shown}{_no_gain(held)}"


def _no_gain(held: Sequence[Easel]) -> str:
    """Which of the claims made no speed, in a sentence."""
    slow = [
        f"`{claim.method}` on {easel.model} ({times(ratio)})"
        for claim in CLAIMS
        for easel in held
        if (ratio := easel.mean_ratio(claim.method, claim.against)) is not None and ratio <= 1
    ]
    return f"\nNot faster on this machine: {', '.join(slow)}.\n" if slow else ""


def _range(easel: Easel, claim: Claim) -> str:
    found = [r for canvas in easel.canvases if (r := canvas.ratio(claim.method, claim.against)) is not None]
    return f"{number(min(found))} to {number(max(found))}" if len(found) > 1 else "one drawing"


def _quality(found: tuple[float, str] | None) -> str:
    if found is None:
        return "–"
    value, name = found
    if name == METRIC:
        return f"{100 * value:.1f} % like real"
    return f"{value:.0f} dB" if name == PSNR else f"{value:.3g} {name}"


def _price(easel: Easel) -> str:
    rows = []
    for canvas in easel.canvases:
        for name, line in canvas.lines.items():
            held = None if line.quality is None else (line.quality, line.quality_metric or "")
            told = "failed" if line.failed else _quality(held)
            rows.append((name, number(line.images_per_s), _times(canvas, name), told))
    said = (
        f"Digits of 8 × 8 pixels; {easel.canvases[0].title}, with guidance unless the method says otherwise. "
        "The classifier learnt from other digits than the models did and recognises "
        f"{100 * classifier_accuracy():.1f} % of real ones that it never saw; 200 real digits are "
        f"{100 * real_resemblance():.1f} % like others. `steps-N` is the model itself in fewer steps, "
        "`few-N` a student that was distilled to few steps and no guidance, `distilled` a narrower student. "
        "On so small a network much of the time is Python's, so number formats gain little; steps and "
        "guidance are what counts. Guidance draws each digit more alike than people write it, few steps "
        "still more so: in one or two the model itself draws the mean of each class, which is always "
        "recognised and always the same, and the figure falls to nothing.\n\n"
    )
    return said + table(("method", "images/s", "× baseline", "quality"), rows)


def _times(canvas: Canvas, name: str) -> str:
    ratio = canvas.ratio(name)
    return "–" if ratio is None else times(ratio)


def _section(easel: Easel) -> str:
    others = [name for name in easel.methods if name != PLAIN]
    head = ("method", *(canvas.title for canvas in easel.canvases), "memory (GiB)", "quality", "warm-up (s)")
    rows = [_row(easel, name) for name in (PLAIN, *others) if name in easel.methods]
    synthetic = "*Synthetic.* " if easel.source.startswith(SYNTHETIC) else ""
    said = (
        f"{synthetic}Weights: {easel.source}. `{PLAIN}` in images per second, every other method as a "
        "multiple of it; the fastest of each drawing in bold. Memory is the largest, quality the least over "
        "the drawings; the warm-up holds compiling.\n\n"
    )
    return f"## {easel.model}\n\n{said}{table(head, rows)}"


def _row(easel: Easel, name: str) -> tuple[str, ...]:
    cells = []
    for canvas in easel.canvases:
        line, rates = (
            canvas.lines.get(name),
            {m: r for m in canvas.lines if (r := canvas.rate(m)) is not None},
        )
        if line is None:
            cells.append("–")
        elif line.images_per_s is None:
            cells.append(f"failed: {(line.failed or '').replace('_', ' ')}")
        else:
            ratio = canvas.ratio(name)
            told = number(line.images_per_s) if name == PLAIN or ratio is None else times(ratio)
            cells.append(f"**{told}**" if name == max(rates, key=lambda m: rates[m]) else told)
    memory = [line.memory_gib for c in easel.canvases if (line := c.lines.get(name)) and line.memory_gib]
    warm = easel.warm_up_s(name)
    return name, *cells, number(max(memory, default=None)), _quality(easel.quality(name)), number(warm)


def _circumstances(records: Sequence[Record]) -> str:
    failed = [record for record in records if record.outcome.kind == "failed"]
    told = [r.provenance.conditions for r in records if r.provenance.conditions is not None]
    busy = [c for c in told if (c.other_cpu_share or 0.0) > BUSY_SHARE]
    machines = sorted({f"{c.host}, {c.cores} cores" for c in told if c.host})
    versions = sorted(
        {f"{r.method.engine} {r.method.engine_version}" for r in records if r.method.engine_version}
    )
    days = sorted({(r.provenance.date or "")[:10] for r in records} - {""})
    lines = [
        f"* {counted(len(records), 'record')}, {len(failed)} of them failures; {', '.join(versions)}.",
        f"* Machine: {'; '.join(machines) or 'not recorded'}. Made on {', '.join(days) or 'an unknown day'}.",
        f"* {_noise(records)}",
        f"* In {counted(len(busy), 'run')} other programs used more than {BUSY_SHARE:.0%} of the cores.",
        *(f"* {r.setting.model.name}, {r.setting.workload.name}: {_reason(r)}" for r in failed),
    ]
    return "\n".join(lines) + "\n"


def _reason(record: Record) -> str:
    outcome = record.outcome
    if outcome.kind != "failed":
        return ""
    return f"{outcome.reason.replace('_', ' ')}: {(outcome.detail or '').splitlines()[0][:200]}"


def _noise(records: Sequence[Record]) -> str:
    from metainf.measure.picture_names import recipe_name
    from metainf.measure.summary import noise

    found = noise([(f"{r.setting.model.name} {recipe_name(r.method)}", r) for r in records])
    if found is None:
        return "Nothing was repeated, so the spread between runs is not known."
    return f"Repeats differ by {found:.1%} (standard deviation)."
