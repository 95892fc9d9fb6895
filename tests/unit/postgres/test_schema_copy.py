"""Which entries of an archive come before the data, and which after it."""

from __future__ import annotations

from foreshard.postgres.schema_copy import split_entries

LIST = """\
;
; Archive created at 2026-01-01 00:00:00 UTC
;
7; 2615 16395 SCHEMA - b 1 owner
2590; 0 0 COMMENT - SCHEMA b 1 owner
219; 1259 16396 TABLE b 1 INDEX TABLE owner
2419; 0 0 TABLE ATTACH b 1 p0 owner
2591; 0 0 COMMENT b 1 TABLE p0 owner
2430; 2606 16405 CONSTRAINT b 1 p0 p0_pkey owner
2440; 0 0 INDEX ATTACH b 1 p0_pkey owner
2428; 1259 16416 INDEX b 1 p0_n_idx owner
2439; 0 0 INDEX ATTACH b 1 p0_n_idx owner
2598; 0 0 COMMENT b 1 INDEX p0_n_idx owner
2444; 2606 16431 FK CONSTRAINT b 1 f f_k_i_fkey owner
2599; 0 0 COMMENT b 1 CONSTRAINT f_k_i_fkey ON f owner
2600; 2620 16432 TRIGGER b 1 p0 noted owner
2601; 2620 16433 TRIGGER b 1 p0 zz_foreshard_guard owner
2602; 2620 16434 TRIGGER b 1 p0 zz_foreshard_truncate owner
2603; 1259 16435 TABLE b 1 zz_foreshard_guard owner
"""


def test_keys_are_attached_before_the_data_and_other_indexes_after_it() -> None:
    before, after = split_entries(LIST.split("\n"), ["b 1"])
    assert [line.split(";")[0] for line in before] == [
        "7",
        "2590",
        "219",
        "2419",
        "2591",
        "2430",
        "2440",
        "2603",
    ]
    assert [line.split(";")[0] for line in after] == ["2428", "2439", "2598", "2444", "2599", "2600"]
