"""The work of the commands for videos: each call opens its own connection to the server."""

import asyncio
import webbrowser
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path

from backend.core.records import Download, Status, StatusWord
from backend.core.settings import ClientSettings
from vodbucket.client.api import Api, open_api
from vodbucket.client.errors import FileRejected, NotPushed, RequestRejected, ServerUnavailable
from vodbucket.client.file_upload import FileUpload
from vodbucket.client.local_file import inspect_file, keeping_original
from vodbucket.client.patience import Patience
from vodbucket.client.responses import VideoWithStatus
from vodbucket.output.messages import print_error, print_line
from vodbucket.output.progress import EncodingBar, UploadBar

POLL_SECONDS = 1.0


class VideoClient:
    """Videos on the server. Retries for `patience_seconds` at a time while the server is unavailable."""

    def __init__(self, settings: ClientSettings, patience_seconds: float = 0) -> None:
        self._settings = settings
        self._patience_seconds = patience_seconds

    def watch_link(self, video_id: str) -> str:
        return f"{str(self._settings.vodbucket_url).rstrip('/')}/watch/{video_id}"

    async def status(self, video_id: str) -> VideoWithStatus:
        async with open_api(self._settings) as api:
            return await api.video(video_id)

    async def list(self, limit: int) -> Sequence[VideoWithStatus]:
        async with open_api(self._settings) as api:
            return await api.videos(limit)

    async def delete(self, video_id: str) -> None:
        async with open_api(self._settings) as api:
            await api.delete(video_id)

    async def download(self, video_id: str, kind: Download, output: Path) -> None:
        async with open_api(self._settings) as api:
            await api.download(video_id, kind, output)

    async def ingest(self, url: str, title: str | None) -> str:
        """Have the server fetch a file, and return the id of its video."""
        async with open_api(self._settings) as api:
            return await api.add_remote(url, title)

    async def follow(self, video_id: str) -> VideoWithStatus:
        """Wait until the video is encoded or has failed, and return it."""
        async with open_api(self._settings) as api:
            await self._follow(api, video_id)
            return await self._patience(_report).attempt(api.video, video_id)

    async def upload(
        self, files: Sequence[Path], title: str | None, *, watch: bool, keep_original: bool = False
    ) -> bool:
        """Upload files in order and return whether all succeeded. A bad file does not stop the others."""
        succeeded = True
        video_ids = []
        async with open_api(self._settings) as api:
            for path in files:
                try:
                    video_ids.append(await self._upload(api, path, title, keep_original=keep_original))
                    print_line(self.watch_link(video_ids[-1]))
                except (FileRejected, RequestRejected) as error:
                    succeeded = False
                    print_error(f"{path}: {error.message}")
                except ServerUnavailable as error:
                    raise ServerUnavailable(
                        f"{path}: {error.message} Run the same command again to resume."
                    ) from error
            if watch:
                for video_id in video_ids:
                    status = await self._follow(api, video_id, open_page=True)
                    succeeded = succeeded and status.status is StatusWord.DONE
        return succeeded

    async def _upload(self, api: Api, path: Path, title: str | None, *, keep_original: bool) -> str:
        file = await asyncio.to_thread(inspect_file, path)
        if keep_original:
            file = keeping_original(file)
        with UploadBar(file) as bar:
            return await FileUpload(api, file, title, self._patience(bar.print), bar).run()

    async def _follow(self, api: Api, video_id: str, *, open_page: bool = False) -> Status:
        """Return the final status."""
        title = (await self._patience(_report).attempt(api.video, video_id)).title
        with EncodingBar(title) as bar:
            async with aclosing(self._statuses(api, video_id, self._patience(bar.print))) as statuses:
                async for status in statuses:
                    bar.show(status)
                    if status.playable and open_page:
                        open_page = False
                        if not webbrowser.open(self.watch_link(video_id)):
                            bar.print(f"{title}: ready to play, but no browser could be opened.")
                    if status.status in (StatusWord.DONE, StatusWord.ERROR):
                        break
            if status.error is not None and status.status is StatusWord.ERROR:
                bar.print(f"{title}: {status.error.message}")
            return status

    async def _statuses(self, api: Api, video_id: str, patience: Patience) -> AsyncGenerator[Status]:
        """Yield the status without end: what the server pushes, and where it does not, what it answers."""
        is_pushed = True
        while True:
            yield await patience.attempt(api.status, video_id)
            if is_pushed:
                try:
                    async with aclosing(api.pushed(video_id)) as pushed:
                        async for status in pushed:
                            yield status
                except NotPushed:
                    is_pushed = False
            await asyncio.sleep(POLL_SECONDS)

    def _patience(self, report: Callable[[str], None]) -> Patience:
        return Patience(self._patience_seconds, report)


def _report(sentence: str) -> None:
    print_line(sentence, err=True)
