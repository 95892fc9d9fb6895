"""Links between the pages of the Prefect UI, from wherever markdown of ours is shown.

Both UIs have the same addresses below their root, and every page that shows an artifact, a form or a description
stands two levels below it: `artifacts/artifact/ID`, `artifacts/key/KEY`, `runs/flow-run/ID`. A relative link so leads
to the right place in either UI, behind any proxy and below any path, and stays in the UI that the reader uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactCollectionFilter, ArtifactCollectionFilterKey

from foreshard.markdown import plain

FLEET = "fleet"
"""Key of the front page."""

_ROOT = "../.."


def to_artifact(key: str, text: str, newest: Mapping[str, UUID] | None = None) -> str:
    """To all versions of an artifact; to the newest at once if its id is among ``newest``."""
    known = (newest or {}).get(key)
    return _link(text, f"artifacts/artifact/{known}" if known else f"artifacts/key/{key}")


def to_run(flow_run_id: str | UUID, text: str) -> str:
    """To the page of a flow run, where it is cancelled, resumed and answered."""
    return _link(text, f"runs/flow-run/{flow_run_id}")


def to_deployments(text: str) -> str:
    """To the list of what can be started."""
    return _link(text, "deployments")


def to_fleet() -> str:
    """To the front page."""
    return to_artifact(FLEET, "Fleet")


def line(*links: str) -> str:
    """Links side by side, the empty ones left out."""
    return " · ".join(one for one in links if one)


def newest(keys: Iterable[str]) -> dict[str, UUID]:
    """The id of the newest version of each artifact that there is, in one request."""
    wanted = list(keys)
    with get_client(sync_client=True) as client:
        found = client.read_latest_artifacts(
            artifact_filter=ArtifactCollectionFilter(key=ArtifactCollectionFilterKey(any_=wanted))
        )
    return {one.key: one.latest_id for one in found if one.key}


def _link(text: str, path: str) -> str:
    return f"[{plain(text)}]({_ROOT}/{path})"
