"""Uploads are streamed: the memory of the API process follows neither their size nor their number."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lab.memory import measure
from tests.lab.product import ADMIN_TOKEN, Product

pytestmark = [pytest.mark.heavy, pytest.mark.spread]

MIB = 1024 * 1024
MOST_GROWTH_MIB = 100


@pytest.mark.parametrize(("files", "size_bytes"), [(1, 1024 * MIB), (50, 16 * MIB)])
def test_uploads_use_less_than_100_mib_of_api_memory(
    product: Product, tmp_path: Path, files: int, size_bytes: int
) -> None:
    api = product.start_api()
    film = tmp_path / "film.mp4"
    with film.open("wb") as sparse:
        sparse.truncate(size_bytes)

    def upload_all() -> None:
        with ThreadPoolExecutor(files) as threads:
            videos.extend(threads.map(lambda _: _upload(product, film), range(files)))

    videos: list[str] = []
    _, growth_mib = measure(api.pid, upload_all)

    with product.client() as client:
        for video in videos:
            assert client.get(f"/api/videos/{video}").json()["size_bytes"] == size_bytes
            client.delete(f"/api/videos/{video}").raise_for_status()  # gives the store its disk back
    assert growth_mib < MOST_GROWTH_MIB


def _upload(product: Product, film: Path) -> str:
    """Return the id of the video."""
    sent = subprocess.run(
        [
            *("curl", "-sS", "--fail", "-X", "POST", "-T", str(film)),
            *("-H", f"Authorization: Bearer {ADMIN_TOKEN}", "-H", "Expect:"),
            f"{product.url}/api/videos?filename={film.name}",
        ],
        check=True,
        capture_output=True,
        timeout=600,
    )
    return str(json.loads(sent.stdout)["id"])
