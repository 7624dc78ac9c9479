"""Uploads are streamed: what the API process takes does not follow the size of the file."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.lab.memory import measure
from tests.lab.product import ADMIN_TOKEN, Product

pytestmark = pytest.mark.heavy

SIZE_BYTES = 2 * 1024**3
MOST_GROWTH_MIB = 150


def test_an_upload_of_two_gibibytes_takes_the_api_less_than_150_mebibytes_of_memory(
    product: Product, tmp_path: Path
) -> None:
    api = product.start_api()
    film = tmp_path / "film.mp4"
    with film.open("wb") as sparse:
        sparse.truncate(SIZE_BYTES)
    answer = tmp_path / "answer.json"

    _, growth_mib = measure(api.pid, lambda: _upload(product, film, answer))

    with product.client() as client:
        video = client.get(f"/api/videos/{json.loads(answer.read_text())['id']}").json()
        client.delete(f"/api/videos/{video['id']}").raise_for_status()  # gives the store its disk back
    assert video["size_bytes"] == SIZE_BYTES
    assert growth_mib < MOST_GROWTH_MIB


def _upload(product: Product, film: Path, answer: Path) -> None:
    subprocess.run(
        [
            *("curl", "-sS", "--fail", "-X", "POST", "-T", str(film), "-o", str(answer)),
            *("-H", f"Authorization: Bearer {ADMIN_TOKEN}", "-H", "Expect:"),
            f"{product.url}/api/videos?filename={film.name}",
        ],
        check=True,
        timeout=600,
    )
