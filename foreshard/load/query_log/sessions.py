"""The search paths of the sessions in a log, as far as the log shows them. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from foreshard.load.query_log.statement import Ended, Part, SetPath

MOST_SESSIONS = 10_000
"""Of more, those that were silent longest are forgotten; their bare names then belong to no bucket."""


@dataclass(frozen=True)
class PathState:
    """The bucket that bare names of a session mean: by SET, by SET LOCAL in the transaction ``transaction``.

    ``before``: what SET had said when that transaction began, for a rollback. ``failed``: an error stands in it.
    """

    by_set: str | None = None
    local: str | None = None
    local_set: bool = False
    before: str | None = None
    transaction: str = ""
    failed: bool = False

    @property
    def bucket(self) -> str | None:
        return self.local if self.local_set else self.by_set


_DEFAULT = PathState()


class Sessions:
    """States by session id. Only those that differ from a new session's are held."""

    def __init__(self, states: Mapping[str, Sequence[Any]] | None = None) -> None:
        self._states: OrderedDict[str, PathState] = OrderedDict(
            (name, PathState(*state)) for name, state in (states or {}).items()
        )

    def buckets(self, session: str, transaction: str, parts: Sequence[Part]) -> set[str]:
        """The buckets of a message that was logged, once it was done, in ``transaction`` ("" when it was over)."""
        before = state = self._states.get(session, _DEFAULT)
        if state is _DEFAULT and not any(part.effects for part in parts):
            return {bucket for part in parts for bucket in part.buckets}
        if transaction and transaction != state.transaction:
            state = _begun(state, transaction)
        found: set[str] = set()
        for part in parts:
            found.update(part.buckets)
            if part.uses_path and state.bucket is not None:
                found.add(state.bucket)
            for effect in part.effects:
                state = _after(state, effect)
        if not transaction:
            state = _begun(state, "")
        if state != before:
            self._keep(session, state)
        return found

    def named(self, session: str, transaction: str, parts: Sequence[Part]) -> set[str]:
        """The buckets of a message that is only prepared: it does nothing to the path yet."""
        state = self._states.get(session, _DEFAULT)
        path = state.bucket if transaction == state.transaction else state.by_set
        found = {bucket for part in parts for bucket in part.buckets}
        if path is not None and any(part.uses_path for part in parts):
            found.add(path)
        return found

    def fail(self, session: str) -> None:
        """An error was logged: unless a savepoint is returned to, the transaction's end is a rollback."""
        if session in self._states:
            self._states[session] = replace(self._states[session], failed=True)

    def forget(self, session: str) -> None:
        """The session has ended."""
        self._states.pop(session, None)

    def clear(self) -> None:
        """The server was started anew: all sessions have ended."""
        self._states.clear()

    def snapshot(self) -> dict[str, PathState]:
        """All states as they are now, oldest first."""
        return dict(self._states)

    def _keep(self, session: str, state: PathState) -> None:
        if replace(state, transaction="") == _DEFAULT:
            self._states.pop(session, None)
            return
        self._states[session] = state
        self._states.move_to_end(session)
        if len(self._states) > MOST_SESSIONS:
            self._states.popitem(last=False)


def _begun(state: PathState, transaction: str) -> PathState:
    # An error outside a transaction, or one whose end was not logged, is of no more account.
    by_set = state.before if state.failed else state.by_set
    return PathState(by_set=by_set, before=by_set, transaction=transaction)


def _after(state: PathState, effect: SetPath | Ended) -> PathState:
    if isinstance(effect, SetPath):
        if effect.local:
            return replace(state, local=effect.bucket, local_set=True)
        return replace(state, by_set=effect.bucket, local=None, local_set=False)
    if effect.to_savepoint:
        return replace(state, failed=False)
    return _begun(replace(state, failed=state.failed or effect.rolled_back), state.transaction)
