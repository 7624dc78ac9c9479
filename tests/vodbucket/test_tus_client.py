"""URLs of uploads, as resumptions contain them."""

import pytest

from vodbucket.client.tus_client import path_of, upload_id_in

ID = "01890000-0000-7000-8000-000000000000"


@pytest.mark.parametrize("before", ["", "https://vodbucket.example", "http://127.0.0.1:3000/behind/a/proxy"])
def test_finds_the_id_in_a_url_with_any_host(before: str) -> None:
    assert upload_id_in(before + path_of(ID)) == ID


@pytest.mark.parametrize("url", ["", "nonsense", "http://[", f"/api/videos/{ID}", "/api/uploads/7", ID])
def test_other_urls_have_no_upload_id(url: str) -> None:
    assert upload_id_in(url) is None
