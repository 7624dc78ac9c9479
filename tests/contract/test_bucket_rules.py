"""Lifecycle rules that drop abandoned uploads, on the stores that take them."""

from typing import TYPE_CHECKING

from backend.core.store.s3 import S3Buckets

if TYPE_CHECKING:
    from types_aiobotocore_s3.type_defs import LifecycleRuleTypeDef


async def test_a_new_bucket_keeps_incomplete_uploads_until_it_is_told_not_to(served: S3Buckets) -> None:
    before = await served.raw.days_until_uploads_are_aborted()
    await served.raw.abort_uploads_after(7)
    await served.raw.abort_uploads_after(5)

    assert (before, await served.raw.days_until_uploads_are_aborted()) == (None, 5)


async def test_other_rules_stay_and_those_for_a_prefix_do_not_count(served: S3Buckets) -> None:
    client = served.raw._s3
    theirs: LifecycleRuleTypeDef = {
        "ID": "theirs",
        "Status": "Enabled",
        "Filter": {"Prefix": "logs/"},
        "Expiration": {"Days": 30},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    }
    await client.put_bucket_lifecycle_configuration(
        Bucket=served.raw.name,
        LifecycleConfiguration={"Rules": [theirs]},
    )
    before = await served.raw.days_until_uploads_are_aborted()

    await served.raw.abort_uploads_after(7)

    rules = (await client.get_bucket_lifecycle_configuration(Bucket=served.raw.name))["Rules"]
    assert (before, await served.raw.days_until_uploads_are_aborted()) == (None, 7)
    assert {rule.get("ID") for rule in rules} == {"theirs", "vodbucket-abort-incomplete-uploads"}


async def test_a_bucket_that_is_not_there_does_not_exist(served: S3Buckets) -> None:
    assert await served.raw.exists()
    await served.raw._s3.delete_bucket(Bucket=served.raw.name)
    assert not await served.raw.exists()
