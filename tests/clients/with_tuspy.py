"""Uploads a file as a tuspy user would, and prints the upload's URL.

`python -m tests.clients.with_tuspy ENDPOINT TOKEN FILE MEMORY`: if it is killed, run it again to resume from
the state in MEMORY. tuspy retries failed chunks but not its first requests; the loop below retries those.
"""

import sys
import time
from pathlib import Path

from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError
from tusclient.storage.filestorage import FileStorage

CHUNK_BYTES = 4 * 1024 * 1024
PAUSE_SECONDS = 1


def main(endpoint: str, token: str, file: str, memory: str) -> None:
    client = TusClient(endpoint, headers={"Authorization": f"Bearer {token}"})
    while True:
        try:
            uploader = client.uploader(
                file,
                chunk_size=CHUNK_BYTES,
                metadata={"filename": Path(file).name, "filetype": "video/mp4"},
                retries=500,
                retry_delay=PAUSE_SECONDS,
                store_url=True,
                url_storage=FileStorage(memory),
            )
            uploader.upload()
            break
        except TusCommunicationError as error:
            sys.stderr.write(f"{error}\n")
            time.sleep(PAUSE_SECONDS)
    sys.stdout.write(f"{uploader.url}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
