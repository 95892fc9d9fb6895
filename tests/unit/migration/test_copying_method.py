"""Which way rows are copied."""

from __future__ import annotations

import pytest

from foreshard.migration.copying.method import Method, choose

GB = 10**9


@pytest.mark.parametrize("wanted", ["pipe", "subscription"])
def test_what_was_set_is_done(wanted: str) -> None:
    assert choose(wanted, 1000 * GB, 1e6, 1e9, 1)[0] == wanted


def test_auto_takes_the_pipe_unless_too_much_wal_would_pile_up() -> None:
    assert choose("auto", 10 * GB, 20e6, 1e6, 16 * GB)[0] is Method.PIPE  # 0.5 GB
    chosen, why = choose("auto", 1000 * GB, 20e6, 1e6, 16 * GB)  # 50 GB
    assert chosen is Method.SUBSCRIPTION
    assert "47,684 MiB of WAL" in why
