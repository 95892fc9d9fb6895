"""Runs a team's own suites: one process with Great Expectations for each side, bounded in time, told as evidence.

Whatever becomes of such a process, what it did not answer is written down as not evaluated, and the gate says no.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from data_checks.own_scope import item
from data_checks.own_suites import OwnExpectation, OwnSuite
from data_checks.run_gate import library_environment
from data_checks.suites import HELD, OTHERWISE_JUDGED
from data_checks.verdict import Finding
from foreshard.errors import ForeshardError, InvalidInput
from foreshard.postgres import passwords

LOOK_TIMEOUT_S = 120.0
_FIRST_REPORT_S = 2.0
_BETWEEN_REPORTS_S = 10.0
_NAMED = 20
"""How many findings before the copy are named."""
_LAST_WORDS = 300  # characters of a process that died

Row = tuple[str, str, int, str, str]
"""Of the evidence's table ``own_suites``: bucket, item, evaluated, critical, warning."""


@dataclass(frozen=True)
class OwnChecks:
    """The suites as they were read, and how long each side may take in seconds; ``report`` is told the progress."""

    suites: tuple[OwnSuite, ...]
    timeout_s: float
    report: Callable[[str], None] = lambda _: None


class SideProcess:
    """One process on one side (None: on no server), from its start on. Ended and waited for by `close`."""

    def __init__(self, side: str, conninfo: str | None, job: Mapping[str, Any], timeout_s: float) -> None:
        self.side = side
        self.answers: list[dict[str, Any]] = []
        self.problem: str | None = None
        self._timed_out = False
        self._done = False
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        with passwords.for_child(conninfo) as login:
            # -P: what lies in the working directory must not be imported in place of a library.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "data_checks.own_process"],
                env=library_environment(login.environment),
                pass_fds=login.files,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                text=True,
                errors="replace",
            )
        line = json.dumps({**job, "side": side, "conninfo": login.conninfo, "timeout_s": timeout_s}) + "\n"
        self._timer = threading.Timer(timeout_s, self.time_is_up)
        self._timer.daemon = True
        self._timer.start()
        self._timeout_s = timeout_s
        self._talk = threading.Thread(target=self._converse, args=(line,), name=f"own-suites-{side}")
        self._talk.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it has ended, at most ``seconds`` from now."""
        self._talk.join(seconds)
        return not self._talk.is_alive()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def close(self) -> None:
        """Kills it if it still runs."""
        self._timer.cancel()
        self._process.kill()
        self._talk.join()
        self._stderr.close()

    def time_is_up(self) -> None:
        """Kills it because it took too long."""
        self._timed_out = True
        self._process.kill()

    def _converse(self, line: str) -> None:
        """Tells it the job, keeps its answers, and notes how it ended."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
            for said in process.stdout:
                answer = json.loads(said)
                self._done |= "done" in answer or "refused" in answer
                self.answers.append(answer)
        except OSError:  # it died before it listened: its exit code says more
            process.kill()
        except ValueError:
            self.problem = "its process said what nobody understands"
            process.kill()
        code = process.wait()
        self._timer.cancel()
        process.stdout.close()
        with suppress(OSError):  # what it did not read
            process.stdin.close()
        if self._timed_out:
            self.problem = f"it took more than {self._timeout_s:g} s"
        elif self.problem is None and (code != 0 or not self._done):
            self.problem = f"its process ended with code {code}: {self._last_words()}"

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", errors="replace").strip().splitlines()
        return lines[-1][-_LAST_WORDS:] if lines else "it said nothing"


def look(suites: Sequence[OwnSuite]) -> None:
    """Has Great Expectations look at the suites, in a process that logs in nowhere. Takes some seconds.

    Raises:
        InvalidInput: it does not take an expectation; names file, expectation and field.
        ForeshardError: its process broke.
    """
    process = SideProcess("look", None, job(0, (), suites), LOOK_TIMEOUT_S)
    try:
        process.wait()
    finally:
        process.close()
    refuse(process)
    if process.problem is not None:
        raise ForeshardError(f"Great Expectations could not look at your suites: {process.problem}.")


class OwnRun:
    """The processes of one gate run."""

    def __init__(self, own: OwnChecks, buckets: Sequence[str], sides: Sequence[SideProcess]) -> None:
        self.sides = sides
        self._own, self._buckets = own, buckets
        self._started = time.monotonic()

    def rows(self) -> list[Row]:
        """Waits for all of them; every expectation of every bucket on every side, also where there is no answer.

        Raises:
            InvalidInput: Great Expectations does not take an expectation; names file, expectation and field.
        """
        patience = _FIRST_REPORT_S
        for process in self.sides:
            while not process.wait(patience):
                self._report("under way")
                patience = _BETWEEN_REPORTS_S
        for process in self.sides:
            refuse(process)
        self._report("done")
        rows: list[Row] = []
        failed_before: set[tuple[str, str]] = set()
        for process in self.sides:
            failed_here = set()
            for row in self._of_side(process, failed_before):
                rows.append(row)
                if HELD not in row[3:]:
                    failed_here.add((row[0], row[1].removesuffix(f" on the {process.side}")))
            failed_before |= failed_here
        return rows

    def _report(self, state: str) -> None:
        each = len(self._buckets) * len(self._own.suites)
        done = ", ".join(f"{p.side} {sum('bucket' in a for a in p.answers)} of {each}" for p in self.sides)
        self._own.report(f"own suites {state}: {done}, {time.monotonic() - self._started:.0f} s")

    def _of_side(self, process: SideProcess, failed_before: set[tuple[str, str]]) -> Iterator[Row]:
        answers = {(a["bucket"], a["suite"]): a for a in process.answers if "bucket" in a}
        for bucket in self._buckets:
            for suite in self._own.suites:
                answer = answers.get((bucket, suite.name), {"broke": process.problem or "there is no answer"})
                for number, expectation in enumerate(suite.expectations, 1):
                    result = answer.get("results", {}).get(str(number))
                    name = item(suite.name, number)
                    words = _in_words(expectation, result, answer.get("broke"))
                    if words != HELD and (bucket, name) in failed_before:
                        words += "; not on the source either"
                    critical = expectation.severity == "critical"
                    yield (
                        bucket,
                        f"{name} on the {process.side}",
                        int(result is not None and not result["raised"]),
                        words if critical else OTHERWISE_JUDGED,
                        OTHERWISE_JUDGED if critical else words,
                    )


@contextmanager
def beside(
    own: OwnChecks | None, migration: int, buckets: Sequence[str], ends: Mapping[str, str]
) -> Iterator[OwnRun | None]:
    """The suites being evaluated while the block runs, which asks for `OwnRun.rows` at its end. None for none.

    ``ends``: side -> connection string, the source first. Leaving the block ends what still runs.
    """
    if own is None or not own.suites or not ends:
        yield None
        return
    told = job(migration, buckets, own.suites)
    sides: list[SideProcess] = []
    try:
        for side, conninfo in ends.items():
            sides.append(SideProcess(side, conninfo, told, own.timeout_s))
        yield OwnRun(own, buckets, sides)
    finally:
        for process in sides:
            process.close()


def warnings(run: OwnRun | None) -> list[Finding]:
    """What does not hold, for a person, some of it named. Waits and raises as `OwnRun.rows`."""
    rows = run.rows() if run is not None else []
    found = [
        Finding("own suite", "own_suites", f"bucket={bucket}, item={name}, {outcome[0]}")
        for bucket, name, _, *words in rows
        if (outcome := [text for text in words if text not in (HELD, OTHERWISE_JUDGED)])
    ]
    rest = len(found) - _NAMED
    return found if rest <= 0 else [*found[:_NAMED], Finding("own suite", "own_suites", f"and {rest} more")]


def job(migration: int, buckets: Sequence[str], suites: Sequence[OwnSuite]) -> dict[str, Any]:
    """What `data_checks.own_process` is told, without the login."""
    described = [suite.described() for suite in suites]
    return {"migration": migration, "buckets": list(buckets), "suites": described}


def refuse(process: SideProcess) -> None:
    """Raises InvalidInput if Great Expectations did not take an expectation; names file, expectation and field."""
    for wrong in (wrong for answer in process.answers for wrong in answer.get("refused", ())):
        raise InvalidInput(
            f"{wrong['suite']}.json: expectations[{wrong['number'] - 1}].{wrong['field']}",
            f"Great Expectations does not take it: {wrong['why']}",
            remedy="`foreshard check suites` looks at all of them.",
        )


def _in_words(expectation: OwnExpectation, result: Mapping[str, Any] | None, broke: str | None) -> str:
    if result is None:
        return f"{expectation}: not evaluated: {broke or 'Great Expectations left it out'}"
    if result["raised"]:
        return f"{expectation}: not evaluated: {result['seen']}"
    if result["held"]:
        return HELD
    return f"{expectation}: {result['seen'] or 'it does not hold'}"
