"""What differs between plans and decisions."""

from __future__ import annotations

import json
from datetime import timedelta

from foreshard.planning.comparison import Move, compare_decisions, compare_plans
from foreshard.planning.explain_comparison import MOST, explain_comparison
from foreshard.planning.policy import DecisionPolicy
from tests.made_plans import NOW, made_decision, made_plan, made_risk


def policy(**values: object) -> dict[str, object]:
    return DecisionPolicy(**values).model_dump(mode="json")


def test_two_decisions() -> None:
    before = made_decision(made_plan(buckets=3), made_plan("shard-1", "shard-2", buckets=("b0009",)))
    after = made_decision(
        made_plan(target="shard-2", buckets=4),
        decided_at=NOW + timedelta(hours=1),
        risks=(
            made_risk("shard-3", 1.5, 0.9),
            made_risk("shard-5", 0.1, 0.0),
            made_risk("shard-2", 0.5, 0.0),
        ),
    )
    found = compare_decisions(before, after, policy(), policy(predicted_weight=0.9))
    assert found.added == (Move("b0003", "shard-3", "shard-2"),)
    assert found.gone == (Move("b0009", "shard-1", "shard-2"),)
    assert [one.after.bucket for one in found.changed] == ["b0000", "b0001", "b0002"]
    assert found.kept == 0
    of = {one.shard: one for one in found.risks}
    assert (of["shard-3"].exceeds_before, of["shard-3"].exceeds_after) == (0.62, 0.9)
    assert (of["shard-5"].score_before, of["shard-5"].score_after) == (None, 0.0)
    assert [(one.field, one.before, one.after) for one in found.policy] == [("predicted_weight", 0.8, 0.9)]
    text = explain_comparison(found, "decision 1", "decision 2")
    assert text.startswith(
        "# From decision 1 to decision 2\n\nOf the moved buckets 1 new, 1 gone, 3 otherwise."
    )
    assert "| changed | b0000 | shard-3 → shard-4, now shard-3 → shard-2 |" in text
    assert "| shard-3 | 0.620 → 0.900 | 121 % → 150 % | 62 % → 90 % |" in text
    assert "| shard-2 |" not in text, "what has not changed is left out"
    assert "| predicted_weight | 0.8 | 0.9 |" in text
    assert "| decided_at | Wed 27 Nov 15:10 UTC | Wed 27 Nov 16:10 UTC |" in text
    assert json.loads(json.dumps(found.to_json()))["added"][0]["bucket"] == "b0003"


def test_the_same_twice() -> None:
    decision = made_decision(made_plan())
    found = compare_decisions(decision, decision, policy(), policy())
    assert found.same_moves
    assert (found.kept, found.policy, found.values) == (5, (), ())
    assert "Both move the same 5 buckets. Both follow the same policy" in explain_comparison(found, "a", "b")
    assert "Neither moves a bucket." in explain_comparison(
        compare_decisions(made_decision(), made_decision()), "a", "b"
    )


def test_two_plans() -> None:
    found = compare_plans(made_plan(buckets=2), made_plan(buckets=MOST + 12, bytes=50_000_000, priority=2.0))
    assert (len(found.added), found.kept) == (MOST + 10, 2)
    assert {one.field for one in found.values} == {"buckets", "bytes", "priority"}
    text = explain_comparison(found, "plan 3", "plan 5")
    assert "... and 10 more." in text
    assert "| bytes | 39.0 MB | 50.0 MB |" in text
    assert "| field | plan 3 | plan 5 |" in text
