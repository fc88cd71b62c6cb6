"""The study of pictures: its grid, its page and its figures, from records that the test makes up."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from metainf import api, catalog
from metainf.domain import (
    BadInput,
    Conditions,
    Device,
    Failed,
    Hardware,
    Measured,
    Metrics,
    Provenance,
    Record,
    Setting,
)
from metainf.engines import engine
from metainf.measure.asked import asked_workload
from metainf.measure.drawing import Batches, drawings_of
from metainf.measure.picture_recipes import recipe
from metainf.measure.serving import drawing_engine
from metainf.study.easels import easels
from metainf.study.image_page import CLAIMS, page
from metainf.study.image_parts import CAMPAIGN, of_images

HARDWARE = Hardware(device=Device(name="a-cpu", kind="cpu", memory_gib=16), count=1)


def record(model: str, method: str, rate: float | None, work: str = "image:256@4", **more: object) -> Record:
    facts = catalog.find_model(model)
    (drawing,) = drawings_of(work, facts, Batches())
    quality, name = more.get("quality"), more.get("name")
    outcome = (
        Failed(reason="unsupported", detail="no such kernel\nand more")
        if rate is None
        else Measured(
            metrics=Metrics.of(
                {"images_per_s": rate, "steps_per_s": 4 * rate, "memory_gib": 0.5}
                | ({} if quality is None else {"quality": quality, "quality_metric": name})
            )
        )
    )
    conditions = Conditions(host="a cpu", cores=2, warm_up_s=1.5, other_cpu_share=0.01)
    return Record(
        setting=Setting(model=facts, workload=asked_workload(drawing), hardware=HARDWARE),
        method=recipe(method, facts, drawing_engine(engine("diffusers"))),
        outcome=outcome,
        provenance=Provenance(
            source="metainf", campaign=f"{CAMPAIGN}{model}", date="2026-01-02",
            trial=int(more.get("trial", 0)),  # type: ignore[call-overload]
            conditions=conditions,
        ),
    )  # fmt: skip


def records() -> list[Record]:
    unet = "sd15-like/small"
    return [
        record(unet, "baseline", 1.0),
        record(unet, "sdpa", 1.5, quality=80.0, name="psnr_db"),
        record(unet, "bf16+sdpa", 3.0, quality=33.0, name="psnr_db"),
        record(unet, "distilled", 1.4),
        record(unet, "distilled+tiny-vae", 1.6),
        record(unet, "baseline", 0.5, "image:320@4"),
        record(unet, "sdpa", 1.0, "image:320@4", quality=70.0, name="psnr_db"),
        record(unet, "sdpa+int8", None),
        record("digits", "baseline", 50.0, "image@20", quality=0.95, name="real_digits_f1"),
        record("digits", "baseline", 54.0, "image@20", quality=0.95, name="real_digits_f1", trial=1),
        record("digits", "few-2", 800.0, "image@20", quality=0.9, name="real_digits_f1"),
    ]


def test_ratios_are_of_the_same_drawing() -> None:
    unet, trained = easels(records())
    assert [canvas.title for canvas in unet.canvases] == [
        "256 × 256, 4 steps, batch 1",
        "320 × 320, 4 steps, batch 1",
    ]
    assert unet.mean_ratio("sdpa") == pytest.approx((1.5 * 2.0) ** 0.5)
    assert unet.mean_ratio("bf16+sdpa", "sdpa") == pytest.approx(2.0)
    assert unet.mean_ratio("sdpa+int8") is None and unet.quality("sdpa") == (70.0, "psnr_db")
    assert unet.warm_up_s("sdpa") == 1.5
    assert trained.canvases[0].rate("baseline") == 52.0, "the median of repeats"
    assert len([row for row in api.image_study_rows(records()) if row["failed"]]) == 1


def lines(text: str, *words: str) -> Sequence[str]:
    return [line for line in text.splitlines() if all(word in line for word in words)]


def test_the_page_sets_the_paper_beside_what_was_measured() -> None:
    text = page(records(), {"methods": "a.svg", "digits": "b.svg"})
    assert lines(text, "up to about 1.5×", "1.40×") and lines(text, "up to about 1.6×", "1.60×")
    assert lines(text, "bf16", "2.00×", "33 dB")
    assert lines(text, "few-2", "800", "90.0 % like real") and "![" in text and "*Synthetic.*" in text
    assert lines(text, "sdpa+int8", "failed: unsupported") and lines(text, "no such kernel")
    assert "random weights" in text and "Repeats differ by" in text
    assert text == page(list(reversed(records())), {"methods": "a.svg", "digits": "b.svg"})
    assert len({claim.words for claim in CLAIMS}) == len(CLAIMS)


def test_the_page_says_whether_anything_was_drawn_at_full_size() -> None:
    nothing = "was measured at full size, nor on a GPU"
    assert nothing in page(records())
    full = page(
        [*records(), record("sdxl-like/full", "baseline", 2.0), record("sdxl-like/full", "sdpa", 3.0)]
    )
    assert nothing not in full and "## sdxl-like/full" in full and "`-like/full` are *synthetic*" in full


def test_figures_and_page_are_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    api.write_image_study(records(), tmp_path / "page.md", tmp_path / "figures")
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    for name in ("study-images-methods.svg", "study-images-digits.svg"):
        assert f"(figures/{name})" in text and (tmp_path / "figures" / name).stat().st_size > 1000


def test_only_records_of_pictures_make_a_study() -> None:
    assert of_images(records()) == records()
    with pytest.raises(BadInput, match="study images run"):
        easels([])
