"""Lifecycle rules that abort abandoned uploads and delete old versions."""

from typing import TYPE_CHECKING

from backend.core.store.s3 import S3Buckets

if TYPE_CHECKING:
    from types_aiobotocore_s3.type_defs import LifecycleRuleTypeDef


async def test_a_new_bucket_keeps_incomplete_uploads_until_a_rule_is_set(served: S3Buckets) -> None:
    before = await served.raw.days_until_uploads_are_aborted()
    await served.raw.abort_uploads_after(7)
    await served.raw.abort_uploads_after(5)

    assert (before, await served.raw.days_until_uploads_are_aborted()) == (None, 5)


async def test_other_rules_are_kept_and_rules_for_a_prefix_do_not_count(served: S3Buckets) -> None:
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


async def test_old_versions_are_kept_until_a_rule_deletes_them_and_other_rules_stay(
    served: S3Buckets,
) -> None:
    client, name = served.raw._s3, served.raw.name
    before = await served.raw.is_versioned()
    await client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    await served.raw.abort_uploads_after(8)
    unlimited = await served.raw.days_until_old_versions_are_deleted()

    await served.raw.delete_old_versions_after(1)

    assert (before, await served.raw.is_versioned(), unlimited) == (False, True, None)
    assert await served.raw.days_until_old_versions_are_deleted() == 1
    assert await served.raw.days_until_uploads_are_aborted() == 8


async def test_a_deleted_bucket_no_longer_exists(served: S3Buckets) -> None:
    assert await served.raw.exists()
    await served.raw._s3.delete_bucket(Bucket=served.raw.name)
    assert not await served.raw.exists()
