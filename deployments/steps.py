"""What a person sees while the demo works: one line a step, with its seconds; a moving bar on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Update = Callable[[float, str], None]
"""Told the fraction done, 0 to 1, and what is being done."""


class Steps:
    """Steps may run side by side in threads. Seconds of each finished step are kept in ``seconds``."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[doing]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    @contextmanager
    def step(self, text: str) -> Iterator[Update]:
        """One step: a bar while it runs, a line with its seconds when it is done or has failed."""
        started = time.monotonic()
        row = self._progress.add_task(escape(text), total=1.0, doing="")

        def update(fraction: float, doing: str) -> None:
            self._progress.update(row, completed=fraction, doing=escape(doing))

        mark = "[red]failed[/]"
        try:
            yield update
            mark = "[green]done[/]"
        finally:
            taken = time.monotonic() - started
            self.seconds[text] = round(taken, 1)
            self._progress.remove_task(row)
            self.console.print(
                f"{mark:<18} {escape(text)} [dim]{taken:.1f} s[/]", highlight=False, soft_wrap=True
            )

    def say(self, text: str) -> None:
        """A line that stays (rich markup)."""
        self.console.print(text, highlight=False, soft_wrap=True)
