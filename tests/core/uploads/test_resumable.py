"""Resumable uploads: interrupted at any byte and at any call to the store, and one request at a time."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.core import keys
from backend.core.errors import (
    IncompleteUpload,
    OffsetMismatch,
    StoreUnavailable,
    UnsupportedType,
    UploadExpired,
    UploadLocked,
)
from backend.core.store.interface import PLAIN, Body, ObjectHeaders, StoredObject, UploadedPart
from tests.core.uploads.upload_lab import FILM, HEAD, PART, Killed, Process, chunks
from tests.core.virtual_time import in_virtual_time, utc_now
from tests.lab.memory_store import MemoryStore

DATA = HEAD + bytes(range(150))


class RawStore(MemoryStore):
    """Notices when a tail, which may be as large as a part, is read outside of the counted memory."""

    async def get(self, key: str) -> StoredObject:
        assert "tail" not in key
        return await super().get(key)


def _stores() -> tuple[MemoryStore, MemoryStore]:
    return RawStore(utc_now), MemoryStore(utc_now)


async def _keys(store: MemoryStore) -> set[str]:
    found = {info.key async for info in store.list_all("")}
    return found | {f"open {upload.key}" async for upload in store.list_uploads("")}


async def _is_finished(raw: MemoryStore, upload_id: str, data: bytes) -> None:
    assert (await raw.get(keys.upload(upload_id))).body == data
    assert await _keys(raw) == {
        keys.upload(upload_id),
        keys.upload_done(upload_id),
        keys.marker(upload_id),
    }


@given(cuts=st.lists(st.integers(0, len(DATA)), max_size=8), piece=st.integers(1, 40))
@settings(deadline=None)
@in_virtual_time
async def test_an_upload_resumes_wherever_it_was_interrupted(cuts: list[int], piece: int) -> None:
    raw, video = _stores()
    process = Process(raw, video)
    upload_id = await process.create(len(DATA))
    at = 0
    for cut in sorted(set(cuts)):
        with pytest.raises(IncompleteUpload):
            await process.uploads.append(upload_id, at, chunks(DATA[at:cut], piece, breaks=True))
        at = (await process.uploads.head(upload_id)).offset
        assert at == cut
    if at < len(DATA):
        done = await process.uploads.append(upload_id, at, chunks(DATA[at:], piece))
        assert (done.offset, done.video_id) == (len(DATA), upload_id)
    await process.uploads.head(upload_id)
    await _is_finished(raw, upload_id, DATA)


@pytest.mark.parametrize("size", [1, PART - 1, PART, PART + 1, 3 * PART, len(DATA)])
@pytest.mark.parametrize("requests", [1, 2, 5])
@in_virtual_time
async def test_an_upload_survives_a_kill_at_any_store_call(size: int, requests: int) -> None:
    data, calls = DATA[:size], 0
    while True:
        raw, video = _stores()
        upload_id = await Process(raw, video).create(size)
        acknowledged = 0
        mortal = Process(raw, video, calls)
        try:
            while acknowledged < size:
                end = min(size, acknowledged + -(-size // requests))
                body = chunks(data[acknowledged:end])
                acknowledged = (await mortal.uploads.append(upload_id, acknowledged, body)).offset
            survived = True
        except Killed:
            survived = False

        other = Process(raw, video)
        at = (await other.uploads.head(upload_id)).offset
        assert acknowledged <= at <= size
        if at < size:
            assert (await other.uploads.append(upload_id, at, chunks(data[at:]))).offset == size
        await _is_finished(raw, upload_id, data)
        assert (await other.uploads.head(upload_id)).video_id == upload_id
        if survived:
            break
        calls += 1
    assert calls > 5


@in_virtual_time
async def test_concatenation_survives_a_kill_at_any_store_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backend.core.uploads.resumable.concatenation.COPY_PART_BYTES", 40)
    monkeypatch.setattr("backend.core.uploads.part_writer.SMALLEST_PART_BYTES", PART)
    monkeypatch.setattr("backend.core.uploads.part_writer.MIB", 1)
    pieces = [DATA[:50], DATA[50:51], DATA[51:130], DATA[130:]]
    calls, survived = 0, False
    while not survived:
        raw, video = _stores()
        first = Process(raw, video)
        ids = []
        for piece in pieces:
            ids.append(await first.create(len(piece), partial=True))
            await first.uploads.append(ids[-1], 0, chunks(piece))
        mortal = Process(raw, video, calls)
        try:
            await mortal.uploads.concatenate(ids, FILM, header="final;")
            survived = True
        except Killed:
            pass
        done = await Process(raw, video).uploads.concatenate(ids, FILM, header="final;")
        assert done.video_id is not None
        assert (await raw.get(keys.upload(done.video_id))).body == DATA
        left = await _keys(raw) - {keys.upload_done(one) for one in (*ids, done.video_id)}
        assert left == {keys.upload(done.video_id), keys.marker(done.video_id)}
        calls += 1
    assert calls > 10


class _Connection:
    """A client that sends when the test says so."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.heard = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (data := await self.sent.get()) is not None:
            yield data
            self.heard.set()


@pytest.mark.parametrize("elsewhere", [False, True])
@in_virtual_time
async def test_the_second_of_two_concurrent_requests_is_locked_out(elsewhere: bool) -> None:
    raw, video = _stores()
    process = Process(raw, video)
    other = Process(raw, video) if elsewhere else process
    upload_id = await process.create(len(DATA))
    client = _Connection()
    first = asyncio.create_task(process.uploads.append(upload_id, 0, aiter(client)))
    sending = asyncio.create_task(_drip(client, DATA[:100], 0.01))
    await client.heard.wait()
    with pytest.raises(UploadLocked):
        await other.uploads.append(upload_id, 0, chunks(DATA))
    await sending
    client.sent.put_nowait(DATA[100:])
    client.sent.put_nowait(None)
    assert (await first).video_id == upload_id
    await _is_finished(raw, upload_id, DATA)


async def _drip(client: _Connection, data: bytes, pause: float) -> None:
    for start in range(len(data)):
        client.sent.put_nowait(data[start : start + 1])
        await asyncio.sleep(pause)


@pytest.mark.parametrize("asking", ["head", "append"])
@in_virtual_time
async def test_a_silent_client_gives_way_without_losing_bytes(asking: str) -> None:
    raw, video = _stores()
    process = Process(raw, video)
    upload_id = await process.create(len(DATA))
    client = _Connection()
    client.sent.put_nowait(DATA[:70])
    first = asyncio.create_task(process.uploads.append(upload_id, 0, aiter(client)))
    await client.heard.wait()
    if asking == "head":
        assert (await process.uploads.head(upload_id)).offset == 70
        assert (await process.uploads.append(upload_id, 70, chunks(DATA[70:]))).video_id == upload_id
    else:
        with pytest.raises(OffsetMismatch):
            await process.uploads.append(upload_id, 0, chunks(DATA))
        assert (await process.uploads.head(upload_id)).offset == 70
    with pytest.raises(UploadLocked):
        await first


class _Slow(MemoryStore):
    """Is slow with parts and tails, but not with heartbeats."""

    seconds = 0.0

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        if "tail" in key:
            await asyncio.sleep(self.seconds)
        await super().put(key, body, headers)

    async def put_part(self, key: str, upload_id: str, number: int, body: Body) -> UploadedPart:
        await asyncio.sleep(self.seconds)
        return await super().put_part(key, upload_id, number, body)


@in_virtual_time
async def test_a_client_that_waits_for_the_server_is_not_silent() -> None:
    raw, video = _Slow(utc_now), MemoryStore(utc_now)
    raw.seconds = 5.0
    process = Process(raw, video)
    upload_id = await process.create(len(DATA))
    first = asyncio.create_task(process.uploads.append(upload_id, 0, chunks(DATA, len(DATA))))
    await asyncio.sleep(3)
    with pytest.raises(UploadLocked):
        await process.uploads.append(upload_id, 0, chunks(DATA))
    assert (await first).video_id == upload_id


@in_virtual_time
async def test_a_client_keeps_its_upload_while_the_store_is_slow_with_a_tail() -> None:
    raw, video = _Slow(utc_now), MemoryStore(utc_now)
    raw.seconds = 20.0
    process, client = Process(raw, video), _Connection()
    upload_id = await process.create(len(DATA))
    first = asyncio.create_task(process.uploads.append(upload_id, 0, aiter(client)))
    for byte in DATA[:11]:
        client.sent.put_nowait(bytes([byte]))
        await asyncio.sleep(4)
    with pytest.raises(UploadLocked):  # the tail has been under way for 10 s
        await Process(raw, video).uploads.append(upload_id, 0, chunks(DATA))
    client.sent.put_nowait(DATA[11:])
    client.sent.put_nowait(None)
    assert (await first).video_id == upload_id


@in_virtual_time
async def test_a_slow_client_leaves_few_tails() -> None:
    raw, video = _stores()
    process, client = Process(raw, video), _Connection()
    upload_id = await process.create(len(DATA))
    first = asyncio.create_task(process.uploads.append(upload_id, 0, aiter(client)))
    for byte in DATA[: 2 * PART]:
        client.sent.put_nowait(bytes([byte]))
        await asyncio.sleep(40)
        tails = [key for key in await _keys(raw) if "tail" in key]
        assert len(tails) <= 5
    assert (await Process(raw, video).uploads.head(upload_id)).offset >= 2 * PART - 2
    client.sent.put_nowait(None)
    assert (await first).offset == 2 * PART
    await process.uploads.append(upload_id, 2 * PART, chunks(DATA[2 * PART :]))
    await _is_finished(raw, upload_id, DATA)


@in_virtual_time
async def test_a_late_heartbeat_changes_nothing() -> None:
    raw, video = _stores()
    process = Process(raw, video)
    upload_id = await process.create(len(DATA))
    client = _Connection()
    first = asyncio.create_task(process.uploads.append(upload_id, 0, aiter(client)))
    client.sent.put_nowait(DATA[:70])
    await asyncio.sleep(3)
    late = keys.upload_progress(upload_id, 0)
    beat = (await raw.get(late)).body
    client.sent.put_nowait(None)
    assert (await first).offset == 70
    await raw.put(late, beat)
    assert (await process.uploads.head(upload_id)).offset == 70
    await process.uploads.append(upload_id, 70, chunks(DATA[70:]))
    await _is_finished(raw, upload_id, DATA)


@in_virtual_time
async def test_a_document_is_refused_even_if_its_first_bytes_come_in_two_requests() -> None:
    raw, video = _stores()
    process = Process(raw, video)
    document = b"%PDF-1.7\n" + bytes(100)
    upload_id = await process.create(len(document))
    with pytest.raises(IncompleteUpload):
        await process.uploads.append(upload_id, 0, chunks(document[:10], breaks=True))
    with pytest.raises(UnsupportedType):
        await process.uploads.append(upload_id, 10, chunks(document[10:]))


@in_virtual_time
async def test_tails_are_read_into_counted_memory_only() -> None:
    raw, video = _stores()
    process = Process(raw, video)
    upload_id = await process.create(len(DATA))
    with pytest.raises(IncompleteUpload):
        await process.uploads.append(upload_id, 0, chunks(DATA[:10], breaks=True))
    await process.uploads.append(upload_id, 10, chunks(DATA[10:]))
    await _is_finished(raw, upload_id, DATA)


@in_virtual_time
async def test_an_upload_with_a_missing_tail_is_expired() -> None:
    raw, video = _stores()
    process = Process(raw, video)
    upload_id = await process.create(len(DATA))
    await process.uploads.append(upload_id, 0, chunks(DATA[: PART + 3]))
    await raw.delete_many([key for key in await _keys(raw) if "tail" in key])
    with pytest.raises(UploadExpired):
        await process.uploads.append(upload_id, PART + 3, chunks(DATA[PART + 3 :]))


@in_virtual_time
async def test_bytes_after_the_end_of_a_finished_upload_are_refused() -> None:
    raw, video = _stores()
    process = Process(raw, video)
    upload_id = await process.create(len(DATA))
    await process.uploads.append(upload_id, 0, chunks(DATA))
    with pytest.raises(OffsetMismatch):  # chunked: its length is unknown
        await process.uploads.append(upload_id, len(DATA), chunks(b"more"), body_bytes=None)
    again = await process.uploads.append(upload_id, len(DATA), chunks(b""), body_bytes=0)
    assert again.video_id == upload_id


@in_virtual_time
async def test_only_one_of_many_servers_takes_over_a_dead_upload() -> None:
    raw, video = _stores()
    upload_id = await Process(raw, video).create(len(DATA))
    with pytest.raises(Killed):
        await Process(raw, video, 6).uploads.append(upload_id, 0, chunks(DATA))
    others = [Process(raw, video) for _ in range(5)]
    at = (await others[0].uploads.head(upload_id)).offset
    outcomes = await asyncio.gather(
        *(other.uploads.append(upload_id, at, chunks(DATA[at:])) for other in others), return_exceptions=True
    )
    done = [one for one in outcomes if not isinstance(one, BaseException)]
    assert len(done) == 1
    assert {type(one) for one in outcomes if isinstance(one, BaseException)} <= {UploadLocked, OffsetMismatch}
    await _is_finished(raw, upload_id, DATA)


class _Failing(MemoryStore):
    """Refuses the second part until it is told otherwise."""

    refuses = True

    async def put_part(self, key: str, upload_id: str, number: int, body: Body) -> UploadedPart:
        if number == 2 and self.refuses:
            raise StoreUnavailable
        return await super().put_part(key, upload_id, number, body)


@pytest.mark.parametrize("sent", [len(DATA), 2 * PART + 5, 3 * PART])
@in_virtual_time
async def test_bytes_after_a_failed_part_do_not_count(sent: int) -> None:
    raw, video = _Failing(utc_now), MemoryStore(utc_now)
    process = Process(raw, video)
    upload_id = await process.create(len(DATA))
    with pytest.raises(StoreUnavailable):
        await process.uploads.append(upload_id, 0, chunks(DATA[:sent], sent, breaks=True))
    assert (await process.uploads.head(upload_id)).offset == PART
    raw.refuses = False
    assert (await process.uploads.append(upload_id, PART, chunks(DATA[PART:]))).offset == len(DATA)
    await _is_finished(raw, upload_id, DATA)


@in_virtual_time
async def test_an_upload_whose_parts_are_gone_is_expired_and_never_complete() -> None:
    raw, video = _stores()
    process = Process(raw, video)
    upload_id = await process.create(len(DATA))
    await process.uploads.append(upload_id, 0, chunks(DATA[:100]))
    async for upload in raw.list_uploads(""):
        await raw.abort_upload(upload.key, upload.upload_id)
    with pytest.raises(UploadExpired):
        await process.uploads.head(upload_id)
    with pytest.raises(UploadExpired):
        await process.uploads.append(upload_id, 100, chunks(DATA[100:]))
    with pytest.raises(UploadExpired):
        await process.uploads.head(upload_id)
