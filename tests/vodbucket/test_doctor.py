"""`vodbucket doctor` as a process: on moto, real stores, and one that ignores `If-None-Match`."""

from collections.abc import Iterator
from datetime import date, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from backend.core.store.probes import Verdict
from backend.core.store.s3 import ensure_buckets
from tests.lab.faulty import error, faulty
from tests.lab.proxy import FaultProxy
from tests.lab.server import StoreServer, free_port
from tests.lab.wire_faults import Answered, HeaderDropped, calls
from tests.vodbucket.conftest import Installation, installation_on
from vodbucket.doctor.machine import YTDLP_DAYS, check_ytdlp

Rows = dict[str, dict[str, str]]

CREATES = {"create-only writes", "create-only race", "create-only writes, video bucket"}
OF_MOTO = {"open uploads", "altered signature", "expired URL"}
"""moto gives all uploads the same date and does not check signatures."""
MACHINE = {
    *("ffmpeg", "ffprobe", "packager", "av1 encoder", "h264 encoder", "hardware encoders"),
    *("aria2", "yt-dlp", "memory and descriptors", "WORK_DIR"),
}


def _with(rows: Rows, verdict: str) -> set[str]:
    return {name for name, row in rows.items() if row["verdict"] == verdict}


@pytest.fixture(
    params=[pytest.param(one, marks=pytest.mark.heavy) for one in ("embedded_server", "rgw_server")]
)
def on_real(request: pytest.FixtureRequest, tmp_path: Path) -> Installation:
    """On each store that answers as S3 does."""
    return installation_on(request.getfixturevalue(request.param), tmp_path)


@pytest.fixture
def on_broken(moto_server: StoreServer, tmp_path: Path) -> Iterator[Installation]:
    """moto behind a proxy that removes the condition from every create-only write."""
    with FaultProxy(moto_server) as proxy:
        proxy.inject(calls("PutObject"), HeaderDropped("if-none-match"), times=None)
        yield installation_on(proxy.server, tmp_path)


async def test_moto_fails_only_the_checks_it_does_not_support(
    on_moto: Installation,
) -> None:
    async with on_moto.buckets() as buckets:
        await ensure_buckets(buckets)

    done, rows = await on_moto.doctor()

    assert done.status == 1
    assert done.json["ok"] is False
    assert _with(rows, "fail") == OF_MOTO | {"CORS for any page"}
    assert _with(rows, "warn") == {"clean-up rule, raw bucket", "clean-up rule, video bucket"}
    assert set(rows) >= CREATES | MACHINE
    assert all(bool(row["advice"]) == (row["verdict"] in {"warn", "fail"}) for row in rows.values())
    async with on_moto.buckets() as buckets:
        for store in (buckets.raw, buckets.video):
            assert [info.key async for info in store.list_all("")] == []
            assert [upload.key async for upload in store.list_uploads("")] == []


async def test_fix_creates_missing_buckets_with_their_rules(on_moto: Installation) -> None:
    before, missing = await on_moto.doctor("--no-worker")
    done, rows = await on_moto.doctor("--no-worker", "--fix")

    assert (before.status, _with(missing, "fail")) == (1, {"raw bucket", "video bucket"})
    assert [line.partition(" ")[0] for line in done.err.splitlines()] == ["done:"] * 5
    assert _with(rows, "fail") == OF_MOTO
    assert _with(rows, "warn") == set()
    async with on_moto.buckets() as buckets:
        assert await buckets.raw.days_until_uploads_are_aborted() == 8


async def test_prints_a_table_and_advice_for_each_failed_check(on_moto: Installation) -> None:
    done = await on_moto.vodbucket("doctor", "--no-worker")

    lines = [line.split() for line in done.out.splitlines()]
    assert ["check", "result", "measured"] in lines
    raw = on_moto.environment["S3_RAW_BUCKET"]
    assert ["raw", "bucket", "fail", raw, "does", "not", "exist"] in lines
    assert "fail  raw bucket: Create it, or run `vodbucket doctor --fix`." in done.out.splitlines()
    assert done.status == 1


@pytest.mark.heavy
async def test_doctor_and_worker_report_a_store_that_ignores_conditions(on_broken: Installation) -> None:
    done, rows = await on_broken.doctor("--fix", "--no-worker")
    refused = await on_broken.run("worker", "--drain")
    alone = await on_broken.run("worker", "--drain", ONLY_WORKER="true")

    assert done.status == 1
    assert _with(rows, "fail") == CREATES | OF_MOTO
    assert rows["create-only writes"]["measured"] == (
        "the condition is ignored: a second write replaced the first"
    )
    assert rows["create-only race"]["measured"] == "16 of 16 writers of one key were told that they won"
    assert "ONLY_WORKER=true" in rows["create-only race"]["advice"]
    assert [refused.status, alone.status] == [2, 0]
    sentence = refused.err.splitlines()[-1]
    assert sentence.startswith("vodbucket worker: this store does not honour create-only writes")
    assert "two workers would take the same job" in sentence
    assert "ONLY_WORKER=true" in sentence


@pytest.mark.heavy
async def test_a_store_without_conditions_stops_the_api_before_any_upload_and_works_for_one_worker(
    moto_server: StoreServer, tmp_path: Path
) -> None:
    """Backblaze B2 answers 501 to every write with If-None-Match."""
    with FaultProxy(moto_server) as proxy:
        proxy.inject(calls("PutObject", conditional=True), Answered(501, "NotImplemented"), times=None)
        on_b2 = installation_on(proxy.server, tmp_path)
        done, rows = await on_b2.doctor("--fix", "--no-worker")
        _, of_one = await on_b2.doctor("--no-worker", ONLY_WORKER="true")
        api = await on_b2.run("backend", ADMIN_TOKEN="a-token-of-sufficient-length", PORT=str(free_port()))
        worker = await on_b2.run("worker", "--drain", ONLY_WORKER="true")
        sweep = await on_b2.vodbucket("sweep", ONLY_WORKER="true")

    assert (done.status, _with(rows, "fail")) == (1, CREATES | OF_MOTO)
    assert "501 NotImplemented" in rows["create-only writes"]["measured"]
    assert (_with(of_one, "fail"), _with(of_one, "warn")) == (OF_MOTO, CREATES)
    assert api.status == 2
    assert "vodbucket: this store does not honour create-only writes" in api.err
    assert "Traceback" not in api.err
    assert (worker.status, sweep.status) == (0, 0)


async def test_warns_of_missing_batches_and_copies_and_detects_an_unreachable_public_address(
    moto_server: StoreServer, tmp_path: Path
) -> None:
    public = f"http://127.0.0.1:{free_port()}"
    with FaultProxy(moto_server) as proxy:
        proxy.inject(calls("DeleteObjects"), Answered(501, "NotImplemented"), times=None)
        proxy.inject(
            lambda call: "x-amz-copy-source" in call.headers, Answered(501, "NotImplemented"), times=None
        )
        installation = installation_on(proxy.server, tmp_path)
        _, rows = await installation.doctor("--fix", "--no-worker", S3_PUBLIC_ENDPOINT_URL=public)

    assert _with(rows, "fail") == OF_MOTO - {"altered signature", "expired URL"} | {"presigned URL"}
    assert _with(rows, "warn") == {"deletion of many", "copy of a range"}
    assert rows["presigned URL"]["measured"].startswith(f"cannot reach {public}")
    assert "S3_PUBLIC_ENDPOINT_URL" in rows["presigned URL"]["advice"]


@pytest.mark.heavy
async def test_warns_of_kept_versions_and_fixes_them(on_moto: Installation) -> None:
    await on_moto.doctor("--fix", "--no-worker")
    async with on_moto.buckets() as buckets:
        for store in (buckets.raw, buckets.video):
            await store._s3.put_bucket_versioning(
                Bucket=store.name, VersioningConfiguration={"Status": "Enabled"}
            )

    _, kept = await on_moto.doctor("--no-worker")
    done, rows = await on_moto.doctor("--no-worker", "--fix")

    names = {"old versions, raw bucket", "old versions, video bucket"}
    assert _with(kept, "warn") == names
    assert "--fix" in kept["old versions, raw bucket"]["advice"]
    assert [line.partition(" in ")[0] for line in done.err.splitlines() if "versions" in line] == [
        "done: delete old versions"
    ] * 2
    assert {rows[name]["measured"] for name in names} == {"deleted after 1 day"}


async def test_unreachable_store_is_one_failed_check(on_moto: Installation) -> None:
    address = f"http://127.0.0.1:{free_port()}"

    done, rows = await on_moto.doctor("--no-worker", S3_ENDPOINT_URL=address)

    assert (done.status, _with(rows, "fail")) == (1, {"store"})
    assert set(rows) == {"store settings", "store"}
    assert "S3_ENDPOINT_URL" in rows["store"]["advice"]


async def test_wrong_settings_are_failed_checks(on_moto: Installation) -> None:
    done, rows = await on_moto.doctor(
        AWS_SECRET_ACCESS_KEY="",
        WORK_DIR="/nowhere",
        FFMPEG="/bin/false",
        PACKAGER="/bin/true",
        VIDEO_SERVER_ENCODER="vaapi",
    )

    assert done.status == 1
    assert _with(rows, "fail") == {
        *("store settings", "ffmpeg", "packager", "av1 encoder", "h264 encoder", "hardware encoders"),
        "WORK_DIR",
    }
    assert rows["packager"]["measured"].startswith("PACKAGER: /bin/true is not packager. ")
    assert "AWS_SECRET_ACCESS_KEY" in rows["store settings"]["measured"]
    assert rows["ffprobe"]["measured"].startswith("version ")


async def test_invalid_worker_setting_is_a_failed_check(on_moto: Installation) -> None:
    _, rows = await on_moto.doctor(WORKER_CONCURRENCY="many")

    assert rows["worker settings"]["measured"].startswith("WORKER_CONCURRENCY: ")
    assert "ffmpeg" not in rows


async def test_a_real_store_passes_once_its_rules_are_set(on_real: Installation) -> None:
    async with on_real.buckets() as buckets:
        await ensure_buckets(buckets)
    origins = "https://videos.example,https://other.example"

    before, bare = await on_real.doctor("--no-worker", CORS_ORIGINS=origins)
    done, rows = await on_real.doctor("--fix", CORS_ORIGINS=origins)

    assert before.status == 1
    assert _with(bare, "fail") == {"CORS for https://videos.example", "CORS for https://other.example"}
    assert _with(bare, "warn") == {"clean-up rule, raw bucket", "clean-up rule, video bucket"}
    assert done.status == 0, done.out
    assert _with(rows, "fail") | _with(rows, "warn") == set()
    assert rows["altered signature"]["measured"] == "rejected with 403"
    assert rows["clean-up rule, raw bucket"]["measured"] == "unfinished uploads are deleted after 8 days"


async def test_detects_wrong_credentials(on_real: Installation) -> None:
    _, wrong_secret = await on_real.doctor("--no-worker", AWS_SECRET_ACCESS_KEY="something else")
    _, unknown_key = await on_real.doctor("--no-worker", AWS_ACCESS_KEY_ID="NOBODY")

    assert wrong_secret["store"]["measured"].endswith("(403 SignatureDoesNotMatch)")
    assert unknown_key["store"]["measured"].endswith("(403 InvalidAccessKeyId)")
    assert "AWS_SECRET_ACCESS_KEY" in wrong_secret["store"]["advice"]


async def test_a_refused_clock_is_not_taken_for_wrong_credentials(tmp_path: Path) -> None:
    async with faulty() as lab:
        lab.behaviour = lambda request: error(403, "RequestTimeTooSkewed")
        _, rows = await installation_on(lab.server, tmp_path).doctor("--no-worker")

    assert rows["store"]["verdict"] == "fail"
    assert "NTP" in rows["store"]["advice"]
    assert "AWS_ACCESS_KEY_ID" not in rows["store"]["advice"]


def test_old_ytdlp_is_reported() -> None:
    released = date(*map(int, version("yt-dlp").split(".")[:3]))

    days = [check_ytdlp(released + timedelta(days=days)).verdict for days in (0, YTDLP_DAYS, YTDLP_DAYS + 1)]

    assert days == [Verdict.OK, Verdict.OK, Verdict.WARN]


def test_missing_ytdlp_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("vodbucket.doctor.machine.version", missing)

    assert check_ytdlp(date(2026, 1, 1)).verdict is Verdict.WARN
