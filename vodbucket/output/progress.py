"""Progress bars on stderr for uploads and encoding. Without a terminal, only messages are printed."""

from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from backend.core.records import Status
from vodbucket.client.local_file import LocalFile
from vodbucket.output.tables import cell, duration, size


class _Bar:
    """A progress bar, shown inside its `with` block."""

    def __init__(self, *columns: ProgressColumn) -> None:
        console = Console(stderr=True, highlight=False)
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def print(self, sentence: str) -> None:
        """Print a message above the bar."""
        self._progress.console.print(cell(sentence), soft_wrap=True)


class UploadBar(_Bar):
    """The upload of one file: bytes, speed, time left."""

    def __init__(self, file: LocalFile) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        self._task = self._progress.add_task(cell(file.name), total=file.size_bytes)

    def set_offset(self, offset: int) -> None:
        self._progress.reset(self._task, completed=offset)

    def advance(self, size_bytes: int) -> None:
        self._progress.advance(self._task, size_bytes)


class EncodingBar(_Bar):
    """The job of one video: progress, stage, how much was fetched, time left."""

    def __init__(self, name: str) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[stage]}  {task.fields[details]}"),
        )
        self._task = self._progress.add_task(cell(name), total=1, stage="", details="")

    def show(self, status: Status) -> None:
        left = status.estimated_remaining_seconds
        received, total = status.received_bytes, status.total_bytes
        fetched = "" if received is None else size(received) + (f" of {size(total)}" if total else "")
        details = "  ".join(filter(None, (fetched, f"{duration(left)} left" if left else "")))
        self._progress.update(self._task, completed=status.progress, stage=status.stage, details=details)
