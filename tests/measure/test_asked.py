"""What is asked of an engine before anything is asked of it."""

from metainf.domain import Lengths, Model, Workload
from metainf.engines.launch import known_context_tokens
from metainf.measure.asked import roomy


def test_traffics_that_differ_by_little_start_an_engine_with_the_same_words() -> None:
    def bound(tokens_in: float, tokens_out: float) -> Workload:
        sides = Lengths(mean=tokens_in, max=tokens_in), Lengths(mean=tokens_out, max=tokens_out)
        return Workload(input_tokens=sides[0], output_tokens=sides[1])

    model = Model(name="m", max_position_embeddings=5000)
    short, long = (known_context_tokens(roomy(bound(*sides), 2048, model)) for sides in ((90, 32), (1800, 8)))
    assert short == long == 2048
    assert (
        known_context_tokens(roomy(bound(4000, 200), 2048, model)) == 5000
    )  # no further than the model goes
    assert known_context_tokens(roomy(bound(6000, 200), 2048, model)) == 6200  # what is asked stays asked
    for step, other in ((1, model), (2048, Model(name="m"))):
        assert roomy(bound(90, 32), step, other) == bound(90, 32)
    opened = Workload(input_tokens=Lengths(mean=90))
    assert roomy(opened, 2048, model) == opened
