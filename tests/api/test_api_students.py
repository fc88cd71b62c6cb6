"""Distilled models that may stand in: which there are, what is told of them, and what puts them out."""

import pytest

from metainf import api, catalog
from metainf.api.asking import Asked
from metainf.api.choosing import ALLOWED
from metainf.cli.choose import ALLOWED as ON_THE_COMMAND_LINE
from metainf.domain import (
    Autoencoder,
    BadInput,
    DistilledModel,
    Method,
    NoFeasible,
    Objective,
    Precision,
    Schedule,
    Selection,
    UnknownName,
    Workload,
)
from metainf.embed import drawing
from metainf.embed.columns import columns
from metainf.engines.stand_ins import stand_ins, too_large
from metainf.engines.students import student, students, students_of

SDXL = catalog.find_model("sdxl")
SMALL = {"width_px": 512, "height_px": 512, "steps": 30}


def answer(**more: object) -> list[Selection]:
    """The answer without and with students."""
    asked = {"objective": Objective(aim="throughput"), "changes": SMALL, "top": 200, "explain": 0} | more
    return [
        api.select(api.Question(SDXL.name, ["rtx-4090"], allow=allow, **asked))  # type: ignore[arg-type]
        for allow in ((), ("distilled",))
    ]


@pytest.mark.parametrize("each", students(), ids=lambda each: each.model)
def test_every_student_and_what_it_stands_in_for_is_in_the_catalogue(each: object) -> None:
    assert each.model in catalog.models() and each.source.startswith("https://")  # type: ignore[attr-defined]
    own = catalog.models()[each.model]  # type: ignore[attr-defined]
    for name in each.of:  # type: ignore[attr-defined]
        other = catalog.models()[name]
        assert own.denoiser == other.denoiser, "one pipeline draws with both"
        few = each.steps is not None  # type: ignore[attr-defined]
        smaller = (own.denoiser_params_b or 0) < 0.97 * (other.denoiser_params_b or 0)
        assert few or smaller, "fewer steps or a smaller denoiser"
        assert not few or own.default_steps == each.steps  # type: ignore[attr-defined]


def test_methods_with_students_hold_everything_else() -> None:
    plain = Method(engine="diffusers", techniques=(Precision(dtype="bf16"),))
    found = stand_ins(SDXL, [plain])
    drawers = {m.get(DistilledModel).model for m in found if m.get(DistilledModel)}  # type: ignore[union-attr]
    assert drawers == {each.model for each in students_of(SDXL)} and len(found) == 2 * len(drawers) + 1
    assert all(m.get(Precision) == Precision(dtype="bf16") for m in found)
    turbo = next(m for m in found if m.get(DistilledModel) == DistilledModel(model="stabilityai/sdxl-turbo"))
    assert turbo.get(Schedule) == Schedule(steps=1, guided=False)
    nothing = catalog.find_model("Qwen/Qwen-Image")
    assert stand_ins(nothing, [plain]) == [], "no student and no distilled autoencoder is known"


def test_a_student_is_forecast_by_its_own_facts() -> None:
    """As fast as where it is asked for itself, in its own number of steps."""
    work = Workload(width_px=512, height_px=512, steps=1)
    machine = catalog.parse_hardware("rtx-4090")[0]
    plain = Method(engine="diffusers", techniques=(Precision(dtype="bf16"),))
    turbo = catalog.models()["stabilityai/sdxl-turbo"]
    stood_in = Method(
        engine="diffusers",
        techniques=(*plain.techniques, *student(turbo.name).techniques),  # type: ignore[union-attr]
    )
    own = drawing.picture(columns([turbo], [work], [machine], [plain]))
    other = work.model_copy(update={"steps": 30})
    asked = columns([SDXL, SDXL], [other, other], [machine, machine], [stood_in, plain])
    seen = drawing.picture(drawing.drawn_by(asked))
    for name in ("flop", "pass_s", "steps", "px", "decode_s", "need_gib"):
        assert seen[name][0] == pytest.approx(own[name][0]), name
    assert seen["steps"].tolist() == [1, 30] and seen["flop"][1] > seen["flop"][0]
    alone = columns([SDXL], [other], [machine], [plain])
    assert drawing.drawn_by(alone) is alone, "nothing changes where no student is named"


def test_students_are_offered_where_allowed_and_marked() -> None:
    alone, allowed = answer()
    assert not any(c.method.get(DistilledModel) or c.method.get(Autoencoder) for c in alone.ranked)
    best = allowed.ranked[0]
    drawer = best.method.get(DistilledModel)
    assert drawer is not None and any(f"another model draws: {drawer.model}" in note for note in best.notes)
    fastest = alone.ranked[0].prediction.metrics["images_per_s"].value
    assert best.prediction.metrics["images_per_s"].value > 2 * fastest, "one step of one pass against thirty"
    program = api.program_of(allowed)
    assert program is not None and f"{drawer.model} in place of {SDXL.name}" in program.text
    compile(program.text, "draw.py", "exec")


def test_more_pixels_than_a_student_was_trained_for_put_it_out() -> None:
    _, allowed = answer(changes={"steps": 30})
    drawers = [c.method.get(DistilledModel) for c in allowed.ranked]
    assert DistilledModel(model="segmind/SSD-1B") in drawers
    assert DistilledModel(model="stabilityai/sdxl-turbo") not in drawers
    assert any("was trained for 512 pixels, 1024 are asked for" in e.reason for e in allowed.excluded)
    turbo = catalog.models()["stabilityai/sdxl-turbo"]
    assert too_large(turbo, Workload(width_px=512, height_px=512), SDXL) is None


def test_a_floor_of_quality_leaves_them_out() -> None:
    """Nothing is known of what they keep."""
    try:
        _, allowed = answer(objective=Objective(aim="throughput", min_quality_recovery=0.5))
    except NoFeasible as error:
        pytest.fail(str(error))
    assert not any(c.method.get(DistilledModel) or c.method.get(Autoencoder) for c in allowed.ranked)
    assert any(e.limit == "quality" for e in allowed.excluded)


def test_one_list_of_what_may_be_allowed() -> None:
    assert ALLOWED == ON_THE_COMMAND_LINE
    asked = '{"model": "sdxl", "hardware": ["L4"], "allow": ["%s"]}'
    assert Asked.parse(asked % ALLOWED[0]).allow == ALLOWED
    with pytest.raises(BadInput):
        Asked.parse(asked % "anything")
    with pytest.raises(UnknownName, match="did you mean distilled"):
        api.Question("sdxl", ["L4"], allow=("destilled",))
