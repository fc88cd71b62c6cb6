"""The tests of the encrypted head run in a process of their own: TenSEAL brings libraries of its own, and was
once seen to end a process that had loaded many others before."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.skipif(find_spec("tenseal") is None, reason="needs the extra he")
def test_a_head_over_an_encrypted_activation() -> None:
    apart = Path(__file__).with_name("encrypted_apart.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-cov", str(apart)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0 and "skipped" not in ran.stdout, ran.stdout + ran.stderr
