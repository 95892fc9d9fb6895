"""The one error root. Every error Foreshard raises on purpose says what is wrong, where, and what to do."""

from __future__ import annotations

from typing import Any


class ForeshardError(Exception):
    """Root of all errors of Foreshard.

    ``message`` says what is wrong, ``remedy`` what to do about it, ``details`` holds the facts as fields. Secrets
    must never be put into any of them.
    """

    def __init__(self, message: str, *, remedy: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details = details

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}" if self.remedy else self.message


class InvalidInput(ForeshardError):
    """A value that a person or a file gave cannot be used; ``field`` names it."""

    def __init__(self, field: str, message: str, *, remedy: str | None = None, **details: Any) -> None:
        super().__init__(f"{field}: {message}", remedy=remedy, field=field, **details)
        self.field = field


class ConfigurationError(InvalidInput):
    """A setting in ``foreshard.toml`` or in a ``FORESHARD_*`` variable is missing or wrong."""


class NotFound(ForeshardError):
    """A plan, migration, shard or bucket of that name does not exist."""


class IllegalTransition(ForeshardError):
    """The lifecycle does not allow this step from here."""


class LeaseLost(ForeshardError):
    """Another runner holds the migration now: stop at once and change nothing."""


class Interrupted(ForeshardError):
    """Somebody asked to hold the migration or to give it back: the step stopped where it can be entered again."""


class OrchestratorUnavailable(ForeshardError):
    """Whoever starts and shows runs does not answer. Nothing is wrong with the migration: another run goes on."""


class GateRefused(ForeshardError):
    """A flip was asked for without checks that passed, cover this migration and flip, and are fresh."""


class ApprovalRequired(ForeshardError):
    """A flip needs a person's approval that is not there."""


class AnswerRefused(ForeshardError):
    """An answer to a question about a flip does not count, for its name, token or voucher; the question stands."""


class PreflightFailed(ForeshardError):
    """The migration must not start; ``details['findings']`` lists why and what to do."""


class FlipFailed(ForeshardError):
    """Ownership could not be moved; both sides are as they were unless ``details`` say otherwise."""


class FailedOver(ForeshardError):
    """A shard was failed over or restored during a migration, and what follows from it stands in the way."""


class StreamBroken(ForeshardError):
    """A subscription of a migration does not exist, is disabled or fails to apply."""


class OutOfHeadroom(ForeshardError):
    """A server keeps too much WAL for a migration, or has too little disk left: stop before harm is done."""


class ShardUnavailable(ForeshardError):
    """A server does not answer."""


class SourceUnavailable(ForeshardError):
    """A source of load, such as Prometheus, does not answer, or knows a part of what it was asked only."""


class RegistrationRefused(ForeshardError):
    """A router may not write its row in the control database: nobody would wait for it, so it asks before each read."""


class WritesNotMeasured(ForeshardError):
    """Where a bucket's writes go could not be measured in time."""


class BucketBusy(ForeshardError):
    """A bucket is still on its way to the plan's source: wait for ``details['migration']`` to be finalised."""


class PlanTaken(ForeshardError):
    """Another run of the plan has been started since it was looked at."""


class PlanClosed(ForeshardError):
    """The plan was rejected or has expired: there is nothing to carry out."""


class OutOfDate(ForeshardError):
    """The fleet changed while it was being decided on: decide again on what is there now."""


class DataMismatch(ForeshardError):
    """Source and target differ where they must be equal."""


class VerificationFailed(ForeshardError):
    """`verify` found differences or disorder; a migration that it speaks against is not finalised."""


class UnknownCommitOutcome(ForeshardError):
    """The connection broke while a COMMIT was under way: it may or may not have happened. Never retried."""


class RefusedWrite(ForeshardError):
    """No owner accepted the write before its deadline; nothing of it was committed."""


class SpansOwners(RefusedWrite):
    """A transaction writes keys that two shards own while their bucket moves; neither shard can accept it."""
