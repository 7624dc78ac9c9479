"""Encodes one file into a folder without a server: the worker runs on a store of files, then deleted."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from backend.core import keys
from backend.core.concurrency import run_guarded
from backend.core.errors import JobFailure, MachineFault, VodbucketError
from backend.core.ids import new_id
from backend.core.library.manifests import add_to_master, add_to_mpd, captions_playlist
from backend.core.library.tracks import tracks_of
from backend.core.library.videos import add_video, latest_outcome, read_item
from backend.core.records import Job, Outputs, Status, TranscodeOptions, Video
from backend.core.settings import WorkerSettings
from backend.core.store.file_store import FileStore
from backend.core.store.interface import Buckets
from worker.encode.video_encoders import Encoders
from worker.new_folder import making, show
from worker.run.machine import Machine, check_quickly, check_tools
from worker.sandbox.tools import Tools, find_tools
from worker.service import choosing, serve

STATUS_SECONDS = 0.5
POLL_SECONDS = 0.2
"""A LIST of some files costs nothing."""


def encode(
    file: Path,
    folder: Path,
    settings: WorkerSettings,
    options: TranscodeOptions,
    report: Callable[[Status], None],
) -> None:
    """Write the outputs of a video to `folder`. It appears once they are complete.

    SIGINT, SIGTERM and SIGHUP end the work: KeyboardInterrupt or asyncio.CancelledError is raised.

    Raises:
        FolderRejected: there is something in it, or it cannot be written.
        JobFailure: this is not a video, or it could not be encoded.
        StoreError: the disk is full, or the file was changed meanwhile.
        ConfigurationError, MachineFault: this machine lacks what it takes.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100  # `resolve` would follow a link to a folder
    with making(folder) as workplace:
        # when this returns, the threads of cancelled writes have ended
        made = asyncio.run(_Encoding(file.absolute(), workplace, options, report).run(settings))
        show(made, folder)


class _Encoding:
    def __init__(
        self, file: Path, workplace: Path, options: TranscodeOptions, report: Callable[[Status], None]
    ) -> None:
        self._file = file
        self._workplace = workplace
        self._options = options
        self._report = report
        self._failure: VodbucketError | None = None
        self._id = new_id()
        raw, self._video = workplace / "raw", workplace / "video"
        self._buckets = Buckets(FileStore(raw, self._fail), FileStore(self._video, self._fail))
        self._link = raw / keys.upload(self._id)

    async def run(self, settings: WorkerSettings) -> Path:
        """Return the directory of the finished run."""
        _cancel_on_signals(asyncio.current_task())
        local = settings.model_copy(
            update={"worker_poll_seconds": POLL_SECONDS, "doorbell": None, "keep_originals": False}
        )
        machine = await self._machine(local)
        await self._add()
        work = serve(local, self._buckets, machine, asyncio.Event(), drain=True)
        await run_guarded(work, self._watch())
        outcome = await latest_outcome(self._buckets, self._id)
        if not isinstance(outcome, Outputs):
            raise JobFailure(outcome.error.message, code=outcome.error.code) if outcome else JobFailure
        made = self._video / keys.run_prefix(self._id, outcome.run)
        _add_captions(made, outcome)
        return made

    async def _machine(self, settings: WorkerSettings) -> Machine:
        """Raises: ConfigurationError, MachineFault. A worker of the service would wait for better times."""
        work_dir = self._workplace / "work"
        work_dir.mkdir()
        tools = find_tools(settings)
        await check_quickly(tools, work_dir)
        await check_tools(tools)
        return _Machine(tools, work_dir, await choosing(settings)(tools), self._fail)

    async def _add(self) -> None:
        size_bytes, now = self._file.stat().st_size, datetime.now(UTC)
        self._link.parent.mkdir()
        self._link.symlink_to(self._file)
        name = self._file.name.encode(errors="replace").decode()[:300]
        video = Video(id=self._id, title=name, filename=name, size_bytes=size_bytes, created_at=now)
        job = Job(
            id=self._id,
            request=self._id,
            source=keys.upload(self._id),
            source_size_bytes=size_bytes,
            options=self._options.model_copy(update={"early_look": False}),
            created_at=now,
        )
        await add_video(self._buckets, video, job)

    async def _watch(self) -> None:
        """Report the status. Raises what a worker of the service would repeat until it works."""
        before = _version(self._file)
        while self._failure is None:
            if _version(self._file) != before:
                raise JobFailure("The file was changed while it was being encoded.", code="source_changed")
            self._report((await read_item(self._buckets, self._id)).status)
            await asyncio.sleep(STATUS_SECONDS)
        raise self._failure

    def _fail(self, error: VodbucketError) -> None:
        self._failure = self._failure or error


class _Machine(Machine):
    """Calls `on_fault` with the first fault: somebody waits who can mend it."""

    def __init__(
        self, tools: Tools, work_dir: Path, encoders: Encoders, on_fault: Callable[[MachineFault], None]
    ) -> None:
        super().__init__(tools, work_dir, encoders)
        self._on_fault = on_fault

    async def check_before_claim(self) -> None:
        with self._reported():
            await super().check_before_claim()

    async def examine(self, error: Exception) -> None:
        with self._reported():
            await super().examine(error)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except MachineFault as fault:
            self._on_fault(fault)
            raise


def _cancel_on_signals(task: "asyncio.Task[Path] | None") -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, lambda: task and task.cancel())


def _version(file: Path) -> tuple[int, ...] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _add_captions(made: Path, outputs: Outputs) -> None:
    """Add the captions to the manifests, which the API does when it serves them."""
    if not (tracks := tracks_of((), outputs.captions)):
        return
    master, mpd = made / keys.MASTER_PLAYLIST, made / keys.DASH_MANIFEST
    master.write_text(add_to_master(master.read_text(), tracks))
    mpd.write_bytes(add_to_mpd(mpd.read_bytes(), tracks))
    for track in tracks:
        playlist = captions_playlist(track, outputs.duration_seconds)
        (made / keys.captions_playlist_path(track.path)).write_text(playlist)
