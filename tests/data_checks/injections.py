"""``python -m tests.data_checks.injections``: faults one at a time, or equal data under writes, and the real gate."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from rich.console import Console

from benchmarks.report import publish
from foreshard.fleet.throwaway import ShardPair, ThrowawayServers
from tests.data_checks import injection_page
from tests.data_checks.checked_pair import checked_pair
from tests.data_checks.injection_runs import alarm_figures, fault_figures, run_alarms, run_faults

EXAMPLES = """
examples:
  python -m tests.data_checks.injections --rows 100000             every fault, in a small table
  python -m tests.data_checks.injections --json faults.json --markdown docs/faults.md
  python -m tests.data_checks.injections --rows 200000 --alarms 100 --json alarms.json

Exit code: 0 if each fault was named and nothing else was, 1 if not, 2 for wrong arguments, 130 if interrupted.
"""
SERVER = {"shared_buffers": "256MB", "max_wal_size": "4GB"}  # with fsync, unlike the servers of the tests
LEAST_ROWS = 1000


def main() -> int:
    """Run what was asked for."""
    arguments = _arguments()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have started us with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    console = Console()
    begun = time.monotonic()

    def say(line: str) -> None:
        console.print(
            f"{time.monotonic() - begun:6.1f} s {line}", highlight=False, markup=False, soft_wrap=True
        )

    try:
        with ThrowawayServers(SERVER) as servers:
            pair = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
            say(f"filling and copying {arguments.rows} rows")
            with checked_pair(pair, arguments.rows) as checked:
                if arguments.alarms:
                    alarms = run_alarms(checked, arguments.alarms, say)
                    publish("false_alarms", alarm_figures(checked, alarms), arguments.json)
                    return 1 if alarms.raised else 0
                injections = run_faults(checked, say)
    except KeyboardInterrupt:
        console.print("Interrupted; servers and data are removed.")
        return 130
    figures = fault_figures(arguments.rows, injections)
    if arguments.json is None:
        say(f"{figures['faults']} faults, missed: {figures['missed'] or 'none'}")
    else:
        publish("injections", figures, arguments.json)
    if arguments.markdown is not None:
        arguments.markdown.write_text(injection_page.page(arguments.rows, injections), encoding="utf-8")
    return 1 if any(one.missed for one in injections) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.data_checks.injections",
        description="Puts faults into the target of a migration, one at a time, and asks the real gate.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rows",
        type=_rows,
        default=5_000_000,
        metavar="N",
        help=f"of the large table, {LEAST_ROWS} or more (default: 5000000)",
    )
    parser.add_argument(
        "--alarms",
        type=_positive,
        metavar="N",
        help="no faults: N gate runs on equal data under 500 writes/s",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page with the faults there")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number


def _rows(text: str) -> int:
    number = int(text)
    if number < LEAST_ROWS:
        raise argparse.ArgumentTypeError(f"{number} is less than {LEAST_ROWS}")
    return number


if __name__ == "__main__":
    sys.exit(main())
