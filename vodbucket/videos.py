"""What the commands for videos do: each errand to the server with a connection of its own."""

import asyncio
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from backend.core.records import Status, StatusWord
from backend.core.settings import ClientSettings
from vodbucket.answers import ListedVideo
from vodbucket.api import Api, open_api
from vodbucket.errors import FileRejected, Refused, ServerAway
from vodbucket.files import examine_file
from vodbucket.patience import Patience
from vodbucket.progress import EncodingBar, UploadBar
from vodbucket.upload import FileUpload

LOOK_SECONDS = 1.0


class VideoClient:
    """One command's business with the server, which may be away for `patience_seconds` at a time."""

    def __init__(self, settings: ClientSettings, patience_seconds: float = 0) -> None:
        self._settings = settings
        self._patience_seconds = patience_seconds

    def watch_link(self, video_id: str) -> str:
        return f"{str(self._settings.vodbucket_url).rstrip('/')}/watch/{video_id}"

    async def status(self, video_id: str) -> ListedVideo:
        async with open_api(self._settings) as api:
            return await api.video(video_id)

    async def list(self, limit: int) -> Sequence[ListedVideo]:
        async with open_api(self._settings) as api:
            return await api.videos(limit)

    async def delete(self, video_id: str) -> None:
        async with open_api(self._settings) as api:
            await api.delete(video_id)

    async def follow(self, video_id: str) -> ListedVideo:
        """Return the video once it has been encoded, or has failed."""
        async with open_api(self._settings) as api:
            await self._follow(api, video_id)
            return await self._patience(_complain).attempt(api.video, video_id)

    async def upload(self, files: Sequence[Path], title: str | None, *, watch: bool) -> bool:
        """Upload one after the other and say whether all went well; one that cannot be stops no other."""
        all_well = True
        video_ids = []
        async with open_api(self._settings) as api:
            for path in files:
                try:
                    video_ids.append(await self._upload(api, path, title))
                    typer.echo(self.watch_link(video_ids[-1]))
                except (FileRejected, Refused) as error:
                    all_well = False
                    _complain(f"vodbucket: {path}: {error.message}")
                except ServerAway as error:
                    raise ServerAway(
                        f"{path}: {error.message} Run the same command again to go on."
                    ) from error
            if watch:
                for video_id in video_ids:
                    ended = await self._follow(api, video_id, open_page=True)
                    all_well = all_well and ended.status is StatusWord.DONE
        return all_well

    async def _upload(self, api: Api, path: Path, title: str | None) -> str:
        file = await asyncio.to_thread(examine_file, path)
        with UploadBar(file) as bar:
            return await FileUpload(api, file, title, self._patience(bar.tell), bar).run()

    async def _follow(self, api: Api, video_id: str, *, open_page: bool = False) -> Status:
        """Return the status in which it ended."""
        title = (await self._patience(_complain).attempt(api.video, video_id)).title
        with EncodingBar(title) as bar:
            patience = self._patience(bar.tell)
            while True:
                status = await patience.attempt(api.status, video_id)
                bar.show(status)
                if status.playable and open_page:
                    open_page = False
                    if not webbrowser.open(self.watch_link(video_id)):
                        bar.tell("It can be played now, but no browser was found here.")
                if status.error is not None and status.status is StatusWord.ERROR:
                    bar.tell(f"{title}: {status.error.message}")
                if status.status in (StatusWord.DONE, StatusWord.ERROR):
                    return status
                await asyncio.sleep(LOOK_SECONDS)

    def _patience(self, tell: Callable[[str], None]) -> Patience:
        return Patience(self._patience_seconds, tell)


def _complain(sentence: str) -> None:
    typer.echo(sentence, err=True)
