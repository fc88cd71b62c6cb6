"""Words that the command line repeats for the sake of a quick help are those of the domain."""

from typing import get_args

from metainf.cli.options import AIMS, MODALITIES
from metainf.domain.objective import Aim
from metainf.domain.setting import Modality


def test_repeated_words_are_the_domain_s() -> None:
    assert get_args(Aim) == AIMS
    assert get_args(Modality) == MODALITIES
