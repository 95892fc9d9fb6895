from __future__ import annotations

import pytest

from foreshard.errors import InvalidInput
from foreshard.forecast.series import SeriesKey


@pytest.mark.parametrize(("shard", "bucket"), [(None, None), ("shard-1", "b0000")])
def test_a_key_is_of_a_shard_or_of_a_bucket(shard: str | None, bucket: str | None) -> None:
    with pytest.raises(InvalidInput, match="key"):
        SeriesKey(shard, bucket, "cpu_cores")
