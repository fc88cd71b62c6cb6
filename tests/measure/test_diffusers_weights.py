"""Weights are told apart by a few of their numbers, whatever their format and order."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'metainf[images]'")

from metainf.hosts.diffusers_weights import SAMPLED, changed, known_params, sampled  # noqa: E402


def net(seed: int, width: int = 16) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Conv2d(4, width, 3), torch.nn.Linear(width, 2 * SAMPLED))


def test_the_same_weights_are_known_in_another_order_and_format() -> None:
    teacher = sampled(net(0).named_parameters(), torch.bfloat16)
    drawing = net(0).to(torch.bfloat16).to(memory_format=torch.channels_last)
    assert changed(sampled(drawing.named_parameters(), torch.float32), teacher) is False
    assert max(len(numbers) for _, numbers in teacher.values()) == 4 * SAMPLED
    drawing[1] = torch.nn.Identity()
    assert changed(sampled(drawing.named_parameters(), torch.float32), teacher) is False, "one part is left"


def test_other_weights_are_seen() -> None:
    teacher = sampled(net(0).named_parameters(), torch.float32)
    assert changed(sampled(net(1).named_parameters(), torch.float32), teacher) is True
    assert changed(sampled(net(0, 8).named_parameters(), torch.float32), teacher) is True, "narrower"
    other = {f"another.{name}": value for name, value in teacher.items()}
    assert changed(other, teacher) is True, "none of the names is there"
    tuned = net(0)
    with torch.no_grad():
        tuned[1].bias[0] += 1
    assert changed(sampled(tuned.named_parameters(), torch.float32), teacher) is True


def test_weights_that_lie_nowhere_tell_nothing() -> None:
    nowhere = net(0).to("meta")
    assert changed(sampled(nowhere.named_parameters(), torch.float32), {"a": ((1,), b"")}) is None


def test_the_catalogue_knows_how_large_a_student_is() -> None:
    small, whole = known_params("segmind/SSD-1B"), known_params("stabilityai/sdxl-turbo")
    assert small is not None and whole is not None and 0.5 < small / whole < 0.55
    assert known_params("mine/unknown") is None and known_params("/nowhere") is None
