"""An independent look for what a migration left behind: asked as superuser, of the servers themselves."""

from __future__ import annotations

from collections.abc import Mapping

from foreshard.fleet.embedded import SHARD_DATABASE, SHARDS, EmbeddedFleet

_OBJECTS = """
SELECT 'slot ' || slot_name FROM pg_replication_slots
UNION ALL SELECT 'origin ' || roname FROM pg_replication_origin
UNION ALL SELECT 'publication ' || pubname FROM pg_publication
UNION ALL SELECT 'subscription ' || subname FROM pg_subscription
UNION ALL SELECT 'trigger ' || tgname || ' on ' || tgrelid::regclass FROM pg_trigger WHERE tgname LIKE '%foreshard%'
UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger
UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'foreshard\\_%'
UNION ALL SELECT 'side of migration ' || migration FROM foreshard.sides
UNION ALL SELECT 'moving bucket ' || bucket FROM foreshard.moving
"""

_COPIES = "SELECT nspname FROM pg_namespace WHERE nspname = ANY(%s)"


def find(fleet: EmbeddedFleet, shard_of: Mapping[str, str]) -> list[str]:
    """Every object of a migration on any shard, and every bucket that stands where it does not belong."""
    found = []
    for shard in SHARDS:
        foreign = [bucket for bucket, owner in shard_of.items() if owner != shard]
        with fleet.server(shard).connect(SHARD_DATABASE) as conn:
            objects = [str(row[0]) for row in conn.execute(_OBJECTS).fetchall()]
            copies = [f"schema {row[0]}" for row in conn.execute(_COPIES, [foreign]).fetchall()]
        found += [f"{shard}: {what}" for what in [*objects, *copies]]
    return found
