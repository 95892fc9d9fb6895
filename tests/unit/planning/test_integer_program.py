"""Yes-or-no programs: what HiGHS prints goes where it spoils nothing."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from foreshard.planning.integer_program import Program

PRINTED = (293, 297, 149)
"""Seeds of programs that HiGHS prints a line of its own about; two lines or more about some."""


def covering(seed: int) -> Program:
    """A few variables whose many rows ask for shares of odd sizes."""
    rng = np.random.default_rng(seed)
    variables, rows = int(rng.integers(10, 30)), int(rng.integers(2, 20))
    program = Program(rng.lognormal(size=variables))
    parts = rng.lognormal(size=(variables, rows))
    need = parts.sum(axis=0) * rng.uniform(0.1, 0.6, rows)
    program.at_least(np.arange(variables), np.minimum(parts / need, 1.0).T, np.ones(rows))
    return program


@pytest.mark.parametrize("seed", PRINTED)
def test_nothing_is_printed_to_standard_output(seed: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert covering(seed).solve() is not None
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "after\n"


def test_standard_output_is_itself_again_after_several_threads(capfd: pytest.CaptureFixture[str]) -> None:
    threads = [threading.Thread(target=covering(seed).solve) for seed in PRINTED]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "after\n"
