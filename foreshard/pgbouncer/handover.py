"""The flip of whole buckets with applications behind PgBouncer: their aliases are paused, then lead to the new owner.

Such an application does not ask who owns a key (`assert_owner`), so none of its transactions may span the flip: while
the aliases are paused there is none. Told top to bottom:

1. consoles are opened, aliases and files looked at, a fact is journalled: these PgBouncers may be behind;
2. `flip.flip` asks and waits for everything that it has to; it calls us when nothing is left but to close;
3. PAUSE, bounded. If a transaction does not end in time the flip is cancelled, and RESUME: nothing has happened;
4. close, marker, open, as anywhere;
5. the file by the new map, RELOAD, a look whether it was taken, RESUME; then the fact is withdrawn.

Whatever fails, RESUME is tried on each. A runner that finds the fact, as its predecessor died, begins with step 5. An
alias that still leads to the former owner is refused there (FS001, or 42P01: the copy is closed). Nothing is lost.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, suppress
from functools import partial
from time import monotonic

from foreshard.errors import FlipFailed, ForeshardError, LeaseLost
from foreshard.migration import failpoint, flip
from foreshard.migration.flip import FlipResult
from foreshard.migration.work import Work
from foreshard.pgbouncer import file
from foreshard.pgbouncer.alias import Alias
from foreshard.pgbouncer.ini import ini
from foreshard.pgbouncer.moving import MovingAliases
from foreshard.pgbouncer.rendering import rendered

logger = logging.getLogger(__name__)

BEHIND = "pgbouncers_behind"
"""In the migration's facts: some alias may be paused still, or lead to the former owner."""


def flip_paused(work: Work, to_bound: int) -> FlipResult | None:
    """`flip.flip` to 0 or 1024, with the moving aliases of ``migration.pgbouncers`` paused; without any, just that.

    Raises:
        GateRefused, ApprovalRequired, LeaseLost, FlipFailed, ...: as `flip.flip`; nothing stays paused.
        ShardUnavailable, ForeshardError: a PgBouncer does not do its part, and nothing has changed. What one does not
            do after the flip is logged, and left to `catch_up`.
        FlipFailed: a transaction behind a PgBouncer did not end in time; ownership is as before.
    """
    if not work.settings.pgbouncers:
        return flip.flip(work, to_bound)
    flip.finish_interrupted(work)
    if work.record.bound == to_bound:  # nothing to pause for
        return flip.flip(work, to_bound)
    with ExitStack() as stack:
        ours = bool(work.facts().get(BEHIND))  # paused by a predecessor, then
        moving = [stack.enter_context(MovingAliases(each, work.buckets)) for each in work.settings.pgbouncers]
        for each in moving:
            each.examine(paused_by_us=ours)
            file.require_writable(each.file)
        rendered(work.topology)  # what cannot be rendered now, cannot then
        work.store.put_facts(work.lease, **{BEHIND: True})
        try:
            return flip.flip(
                work,
                to_bound,
                before_close=partial(_pause, work, moving),
                after_open=partial(_release, work, moving),
            )
        except LeaseLost:  # the file is the next runner's
            for each in moving:
                with suppress(ForeshardError):
                    each.resume()
            raise
        except BaseException:
            _release(work, moving)
            raise


def catch_up(work: Work) -> None:
    """Step 5 again, if it failed or a predecessor left it undone.

    Raises:
        ForeshardError: a PgBouncer still does not do its part. Ownership stands as it is.
    """
    if not work.facts().get(BEHIND):
        return
    problems: list[ForeshardError] = []
    with ExitStack() as stack:
        moving = []
        for each in work.settings.pgbouncers:
            try:
                moving.append(stack.enter_context(MovingAliases(each, work.buckets)))
            except ForeshardError as away:
                problems.append(away)
        _refuse(work, problems + _follow(work, moving, others_too=not problems))


def settle(work: Work) -> None:
    """`catch_up` for a runner that has just taken over: what fails is logged, and asked for again by the cutover."""
    try:
        catch_up(work)
    except LeaseLost:
        raise
    except ForeshardError as problem:
        logger.warning("migration %s: %s", work.lease.migration, problem)


def _pause(work: Work, moving: list[MovingAliases]) -> None:
    """All aliases on all PgBouncers at once: the slowest transaction counts, not their sum."""
    deadline = monotonic() + work.settings.pgbouncer_pause_s
    for each in moving:
        each.begin_pause()
    for each in moving:
        open_still = each.not_paused(deadline)
        if open_still:
            raise FlipFailed(
                f"PgBouncer {each.name}: transactions on {', '.join(open_still)} did not end within "
                f"{work.settings.pgbouncer_pause_s:g} s, so they could not be paused; ownership is as before.",
                remedy="Look for long transactions (SHOW SERVERS there), or raise migration.pgbouncer_pause_s.",
                pgbouncer=each.name,
                aliases=open_still,
            )
    failpoint.hit("pgbouncer_paused", work.state_dir)


def _release(work: Work, moving: list[MovingAliases]) -> None:
    """Step 5, right after the flip or after its failure; what one does not do is left to `catch_up`."""
    failpoint.hit("pgbouncer_flipped", work.state_dir)
    try:
        problems = _follow(work, moving)
    except Exception as error:  # the fact could not be withdrawn: then it stands
        problems = [_as_ours(error)]
    for problem in problems:
        logger.warning("migration %s: %s", work.lease.migration, problem)


def _follow(work: Work, moving: list[MovingAliases], *, others_too: bool = True) -> list[ForeshardError]:
    """Lead the aliases by the map as it stands now, and let their clients go on; returns what failed, by PgBouncer.

    ``others_too``: nothing has failed elsewhere, so the fact may be withdrawn if nothing fails here.
    """
    problems: list[ForeshardError] = []
    wanted: tuple[Alias, ...] = ()
    try:
        with file.locked([each.file for each in moving]):
            epoch, wanted = rendered(work.topology)
            text = ini(epoch, wanted)
            problems += [problem for each in moving if (problem := file.replace(each.file, text))]
    except Exception as error:  # whatever it is: RESUME comes next
        problems.append(_as_ours(error))
    for each in moving:
        for step in (partial(each.reload, wanted), each.resume):
            try:
                step()
            except ForeshardError as error:
                problems.append(error)
    if not problems and others_too:
        work.store.put_facts(work.lease, **{BEHIND: False})
    return problems


def _refuse(work: Work, problems: list[ForeshardError]) -> None:
    if problems:
        raise ForeshardError(
            f"Ownership stands at bound {work.record.bound} of 1024, but not every PgBouncer follows: "
            + " ".join(problem.message for problem in problems),
            remedy="Until it does, its clients are refused where they do not belong, and nothing is lost. Perform the "
            "step again; or by hand: `foreshard pgbouncer render --out FILE`, then RELOAD and RESUME there.",
            problems=[problem.message for problem in problems],
        )


def _as_ours(error: Exception) -> ForeshardError:
    return error if isinstance(error, ForeshardError) else ForeshardError(f"{type(error).__name__}: {error}.")
