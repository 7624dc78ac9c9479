"""Addresses of uploads, as notes have them."""

import pytest

from vodbucket.tus import address_of, upload_at

ID = "01890000-0000-7000-8000-000000000000"


@pytest.mark.parametrize("before", ["", "https://vodbucket.example", "http://127.0.0.1:3000/behind/a/proxy"])
def test_an_upload_is_found_by_any_name_of_its_server(before: str) -> None:
    assert upload_at(before + address_of(ID)) == ID


@pytest.mark.parametrize("address", ["", "nonsense", "http://[", f"/api/videos/{ID}", "/api/uploads/7", ID])
def test_what_is_no_address_of_an_upload_leads_nowhere(address: str) -> None:
    assert upload_at(address) is None
