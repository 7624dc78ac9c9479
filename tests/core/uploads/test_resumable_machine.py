"""Resumable uploads under random requests and faults (`tests.core.uploads.upload_machine`)."""

import pytest

from tests.core.uploads.upload_machine import explore


@pytest.mark.parametrize(
    ("examples", "steps"), [(20, 20), pytest.param(100, 40, marks=pytest.mark.heavy)], ids=["some", "many"]
)
def test_no_order_of_requests_and_faults_loses_acknowledged_bytes(examples: int, steps: int) -> None:
    explore(examples, steps)
