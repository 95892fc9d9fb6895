"""``python -m tests.stress``: runs the parts of the stress test, prints a report, writes JSON."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from foreshard.fleet.throwaway import ThrowawayServers
from tests.stress import report
from tests.stress.part import Context, Part, PartResult
from tests.stress.parts import PARTS

EXAMPLES = """
examples:
  python -m tests.stress                                        everything, 300 flips
  python -m tests.stress --flips 10000 --seed 7 --json out.json
  python -m tests.stress --only controls                        whether the checker sees a broken fence

The flips may be run in parts, each with a seed of its own: four times --flips 2500, seeds 1 to 4, are 10,000 flips.
Exit code: 0 if everything passed, 1 if not, 2 for wrong arguments, 130 if interrupted.
"""


def main() -> int:
    """Run the parts that were asked for."""
    arguments = _arguments()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have started us with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    wanted = [part for part in PARTS if not arguments.only or part.name in arguments.only]
    console = Console()
    begun = time.monotonic()

    def say(part: str, line: str) -> None:
        console.print(f"[dim]{time.monotonic() - begun:6.1f} s[/dim] {part}: {line}", highlight=False)

    results: dict[str, PartResult] = {}
    try:
        with ThrowawayServers() as servers:
            state = servers.directory / "state"
            state.mkdir(mode=0o700)
            versions = report.versions(servers)
            for part in wanted:
                directory = state / part.name
                directory.mkdir()
                context = Context(
                    servers, directory, arguments.flips, arguments.seed, partial(say, part.name)
                )
                results[part.name] = _run(part, context)
    except KeyboardInterrupt:
        console.print("Interrupted; servers and data are removed.")
        return 130
    document = report.document(results, versions, arguments.flips, arguments.seed, time.monotonic() - begun)
    report.show(console, results, document)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0 if document["passed"] else 1


def _run(part: Part, context: Context) -> PartResult:
    begun = time.monotonic()
    try:
        result = part.run(context)
    except Exception as error:
        traceback.print_exc()
        result = PartResult(False, {}, [f"{type(error).__name__}: {error}"])
    seconds = round(time.monotonic() - begun, 1)
    return replace(result, figures={**result.figures, "seconds_in_all": seconds})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stress",
        description="Proves on real servers that no acknowledged write is lost or doubled, whatever moves or dies.",
        epilog=EXAMPLES + "\nparts:\n" + "".join(f"  {part.name:12} {part.what}\n" for part in PARTS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [part.name for part in PARTS]
    parser.add_argument(
        "--flips", type=_positive, default=300, metavar="N", help="flips of the part flips (default: 300)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of writers and bounds (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--only", type=lambda text: _names(text, names), metavar="PARTS",
        help=f"comma-separated: {', '.join(names)} (default: all)",
    )  # fmt: skip
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number


def _names(text: str, known: list[str]) -> list[str]:
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is no part; there are {', '.join(known)}")
    return wanted


if __name__ == "__main__":
    sys.exit(main())
