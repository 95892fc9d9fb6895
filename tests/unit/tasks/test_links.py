"""Links lead to the same page from every page that shows markdown, in both UIs and behind a proxy."""

from __future__ import annotations

from urllib.parse import urljoin
from uuid import UUID

import pytest

from foreshard.migration.lifecycle import Stage
from tasks import links
from tasks.stage_path import stage_path

ID = UUID("6b0b0a1e-4b1c-4f0e-9a51-0c9f5f7f0002")


@pytest.mark.parametrize("root", ["http://h:4200/", "http://h:4200/v2/", "https://proxy.example/prefect/v2/"])
@pytest.mark.parametrize("page", ["artifacts/key/plan-1", f"artifacts/artifact/{ID}", f"runs/flow-run/{ID}"])
def test_from_every_page(root: str, page: str) -> None:
    for link, path in (
        (links.to_artifact("plan-1", "Plan 1"), "artifacts/key/plan-1"),
        (links.to_artifact("plan-1", "Plan 1", {"plan-1": ID}), f"artifacts/artifact/{ID}"),
        (links.to_run(ID, "Run"), f"runs/flow-run/{ID}"),
        (links.to_deployments("Start"), "deployments"),
    ):
        assert urljoin(root + page, link.partition("](")[2].rstrip(")")) == root + path


def test_texts_are_no_markup_and_empty_links_are_left_out() -> None:
    assert links.to_artifact("k", "a]b").startswith("[a\\]b](")
    assert links.line("a", "", "b") == "a · b"


def test_the_present_stage_is_marked() -> None:
    assert stage_path(Stage.PREPARE).startswith("✓ preflight → **▶ prepare** → backfill")
    assert stage_path(Stage.DONE).endswith("✓ done")
    assert stage_path(Stage.REVERSING) == "**▶ reversing** → reversed"
    assert all(stage_path(stage) for stage in Stage)
