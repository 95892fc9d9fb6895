"""What an artifact says, on a real Prefect server."""

from __future__ import annotations

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort


def artifact(client: SyncPrefectClient, key: str) -> str:
    """The text of the newest version; there must be one."""
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
    (newest,) = client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.UPDATED_DESC, limit=1)
    return str(newest.data)
