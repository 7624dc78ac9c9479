"""Files that other programs put into the store become videos: from the inbox, and from another bucket."""

import time
from pathlib import Path
from uuid import uuid4

import boto3
import pytest

from tests.lab.clips import make_clip
from tests.lab.product import Product

pytestmark = [pytest.mark.heavy, pytest.mark.spread]
PATIENCE_SECONDS = 240


def test_files_put_into_the_store_become_videos(product: Product, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "short.mp4", seconds=2, width=320, height=180)
    environment, films = product.environment, f"films-{uuid4().hex[:12]}"
    s3 = boto3.client(
        "s3",
        endpoint_url=environment["S3_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )
    environment["IMPORT_BUCKETS"] = films
    product.start_api(INBOX_SECONDS="1")
    product.start_worker()
    raw = environment["S3_RAW_BUCKET"]
    s3.put_object(Bucket=raw, Key="inbox/holidays/a clip+1.mp4.json", Body=b'{"title": "Holidays"}')
    s3.upload_file(str(clip), raw, "inbox/holidays/a clip+1.mp4")
    s3.create_bucket(Bucket=films)
    s3.upload_file(str(clip), films, "a film.mp4")

    with product.client() as client:
        answer = client.post("/upload/remote", json={"url": f"s3://{films}/a film.mp4"})
        assert answer.status_code == 202, answer.text
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(videos := client.get("/api/videos").json()["videos"]) < 2:
            assert time.monotonic() < deadline, product.log_of("backend")
            time.sleep(0.2)
    assert {video["title"] for video in videos} == {"Holidays", "a film"}
    for video in videos:
        product.wait_for(video["id"], status="done", seconds=PATIENCE_SECONDS)
    while s3.list_objects_v2(Bucket=raw)["KeyCount"]:
        assert time.monotonic() < deadline, product.log_of("backend")
        time.sleep(0.2)
