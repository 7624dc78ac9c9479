"""Requests that no client should send get a 4xx with our error body, and no crash is logged."""

import asyncio
import json
import re
from collections.abc import AsyncIterator

import pytest
from litestar import Litestar
from litestar.types import Receive, Scope, Send
from structlog.testing import capture_logs

from tests.backend.raw_http import AUTHORIZATION, SECONDS, Answer, Server, serving

ID = "01980000-0000-7000-8000-000000000000"
JSON = "Content-Type: application/json"
TUS = ["Tus-Resumable: 1.0.0", AUTHORIZATION]
DEEP = b"[" * 30_000
UPLOAD = ["Content-Type: application/offset+octet-stream", *TUS]


def _sent(request: str, *headers: str, body: bytes = b"", host: str = "Host: vod.example") -> bytes:
    lines = [f"{request} HTTP/1.1", *([host] if host else []), *headers]
    if body or "POST" in request:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _signing_in(body: bytes, content_type: str = JSON) -> bytes:
    return _sent("POST /api/session", content_type, body=body)


def _editing(body: bytes) -> bytes:
    return _sent(f"PATCH /api/videos/{ID}", JSON, AUTHORIZATION, body=body)


def _noting(body: bytes) -> bytes:
    return _sent(f"PUT /api/resumptions/{'0' * 64}", JSON, AUTHORIZATION, body=body)


def _get(target: str, *headers: str) -> bytes:
    return _sent(f"GET {target}", AUTHORIZATION, *headers)


def _form(disposition: bytes, content_type: str = "multipart/form-data; boundary=b") -> bytes:
    body = b"--b\r\nContent-Disposition: form-data; " + disposition + b"\r\n\r\nx\r\n--b--\r\n"
    return _sent("POST /api/upload", f"Content-Type: {content_type}", AUTHORIZATION, body=body)


REQUESTS = [
    # Bodies
    _signing_in(b'{"token": "\xff\xfe"}'),
    _signing_in(b'{"token": "\\ud800"}'),
    _signing_in(b'{"token": "\\u0000"}'),
    _signing_in(b'{"token": "' + "é".encode("utf-16") + b'"}'),
    _signing_in(b"\xff"),
    _signing_in(DEEP),
    _signing_in(b'{"a":' * 9_000),
    _signing_in(b'{"token": ' + DEEP + b"]" * 30_000 + b"}"),
    _signing_in(b'{"token": 1' + b"0" * 60_000 + b"}"),
    _signing_in(b'{"token": 1e999999}'),
    _signing_in(b'{"token": NaN}'),
    _signing_in(b"{" + b",".join(b'"%d":1' % number for number in range(7_000)) + b"}"),
    _signing_in(b"null"),
    _signing_in(b"[]"),
    _signing_in(b""),
    _signing_in(b'{"token": "x", "token": "y"}'),
    _signing_in(b"x" * 70_000),
    _signing_in(b'{"token": "x"}', "Content-Type: text/plain"),
    _signing_in(b'{"token": "x"}', "Content-Type: application/json; charset=utf-16"),
    _signing_in(b'{"token": "x"}', "Content-Type: application/json; charset=no-such"),
    _signing_in(b'{"token": "x"}', "Content-Type: \xff"),
    _signing_in(b'{"token": "x"}', "Content-Type: ;;;="),
    _signing_in(b'{"token": "x"}', "Content-Encoding: gzip"),
    _signing_in(b"token=x", "Content-Type: application/x-www-form-urlencoded"),
    _signing_in(b"\x81\xa5token\xa1x", "Content-Type: application/msgpack"),
    _signing_in(b"--b\r\n", "Content-Type: multipart/form-data; boundary=b"),
    _signing_in(b"--b\r\n", "Content-Type: multipart/form-data"),
    _editing(b'{"title": "\\ud800"}'),
    _editing(b'{"title": "' + b"\xff" * 9 + b'"}'),
    _editing(b'{"title": {"a": []}}'),
    _editing(b'{"visibility": "\x00"}'),
    _noting(b'{"size_bytes": ' + b"9" * 5_000 + b"}"),
    _noting(b'{"size_bytes": 1.5}'),
    _noting(b'{"size_bytes": true}'),
    _noting(b'{"upload_url": "\\udfff"}'),
    _noting(DEEP),
    _sent(f"POST /api/videos/{ID}/transcodes", JSON, AUTHORIZATION, body=b'{"crf": false}'),
    _sent(f"POST /api/videos/{ID}/transcodes", JSON, AUTHORIZATION, body=b'{"crf": "1"}'),
    _sent(f"POST /api/videos/{ID}/transcodes", JSON, AUTHORIZATION, body=b'{"crf": 1.5}'),
    _sent(f"POST /api/videos/{ID}/captions/en", AUTHORIZATION, body=b"\xff\xfe\x00WEBVTT"),
    _sent(f"POST /api/videos/{ID}/captions/en", AUTHORIZATION, body=b"WEBVTT\n\n" + b"-->\n" * 9_000),
    # Paths
    _get("/api/videos/%ff"),
    _get("/api/videos/%00"),
    _get("/api/videos/%ed%a0%80"),
    _get("/api/videos/%"),
    _get("/api/videos/%zz"),
    _get("/api/videos/" + "x" * 9_000),
    _get("/api/resumptions/%ff"),
    _get("/api/uploads/%ff", *TUS),
    _get(f"/api/videos/{ID}/captions/%ff"),
    _get("/play/%ff/%ff"),
    _get("/play/" + "x" * 9_000 + "/hls/master.m3u8"),
    _get("/play/" + "é/é".encode().hex() + "/%c3%28"),
    _get("/videos/%ff/hls/%fe"),
    _get(f"/videos/{ID}/hls/%00"),
    _get("/%ff.js"),
    _get("/assets/%00"),
    _get("/" + "a/" * 4_000 + "x.js"),
    _get("/" + "x" * 5_000 + ".js"),
    _get("/..%2f..%2fetc/passwd.txt"),
    # Queries
    _get("/api/videos?limit=%ff"),
    _get("/api/videos?limit=\x7f"),
    _get("/api/videos?limit=1" + "0" * 5_000),
    _get("/api/videos?limit=true"),
    _get("/api/videos?limit=1.0"),
    _get("/api/videos?limit=1_0"),
    _get("/api/videos?limit=%D9%A1"),
    _get("/api/videos?limit="),
    _get("/api/videos?limit=1&limit=2"),
    _get("/api/videos?cursor=%ff"),
    _get("/api/videos?cursor=%00"),
    _get("/api/videos?cursor=%ed%a0%80"),
    _get("/api/videos?%zz=%"),
    _get("/healthz?" + "a&" * 5_000),
    _get("/api/jobs?state=%ff"),
    _get("/api/jobs?limit=-1"),
    _sent("POST /api/videos?crf=%ff", AUTHORIZATION, body=b"x"),
    _sent("POST /api/videos?crf=1e1", AUTHORIZATION, body=b"x"),
    _sent("POST /api/videos?crf=false", AUTHORIZATION, body=b"x"),
    _sent("POST /api/videos?title=%ff", AUTHORIZATION, body=b"x"),
    _sent("POST /api/videos?filename=%ed%a0%80", AUTHORIZATION, body=b"x"),
    # Headers
    _sent("GET /api/videos", "Authorization: Bearer \xff\xfe"),
    _sent("GET /api/videos", "Authorization: \xff"),
    _sent("GET /api/videos", "Authorization:"),
    _sent("GET /api/videos", AUTHORIZATION, "Authorization: Bearer x"),
    _sent("GET /api/videos", "Cookie: vodbucket_session=\xff\xfe; \xff=\xff"),
    _sent("GET /api/videos", "Cookie: =; ;;; a; vodbucket_session=\x22\\400\x22"),
    _sent("GET /api/videos", "Cookie: " + "a=b; " * 9_000),
    _sent("POST /api/videos", "Origin: \xff", "Cookie: vodbucket_session=x", body=b"x"),
    _sent("POST /api/videos", "Origin: http://[::1", "Cookie: vodbucket_session=x", body=b"x"),
    _sent("GET /api/videos", "Accept: \xff;q=\xff", "Accept-Language: \xff"),
    _sent("POST /api/videos", "Content-Type: \xff/\xff", AUTHORIZATION, body=b""),
    _sent("GET /api/videos", "X-Forwarded-For: \xff", "X-Forwarded-Proto: \xff"),
    _sent("GET /api/videos", host=""),
    _sent("GET /api/videos", "Host: other.example"),
    _sent("GET /healthz", host="Host:"),
    _sent("GET /healthz", host="Host: a b"),
    _sent("GET /healthz", host="Host: a/b"),
    _sent("GET /healthz", host="Host: user@a"),
    _sent("GET /healthz", host="Host: \xff"),
    _sent("GET /healthz", host="Host: a:99999999"),
    _sent("POST /api/uploads", *TUS, "Upload-Length: \xb2"),
    _sent("POST /api/uploads", *TUS, "Upload-Length: 1_0"),
    _sent("POST /api/uploads", *TUS, "Upload-Length: " + "9" * 5_000),
    _sent("POST /api/uploads", *TUS, "Upload-Length: 1", "Upload-Length: 2"),
    _sent("POST /api/uploads", *TUS, "Upload-Length: 5", "Upload-Metadata: \xff \xff"),
    _sent("POST /api/uploads", *TUS, "Upload-Length: 5", "Upload-Metadata: " + "a," * 4_000),
    _sent("POST /api/uploads", *TUS, "Upload-Concat: final;\xff"),
    _sent("POST /api/uploads", *TUS, "Upload-Concat: final;http://[::1/x"),
    _sent("POST /api/uploads", *TUS, "Upload-Length: 5", "Upload-Checksum: sha1 \xff"),
    _sent("POST /api/uploads", *TUS, "Upload-Length: 5", "Upload-Checksum: \xff"),
    _sent("POST /api/uploads", *UPLOAD, "Upload-Offset: \xff", "X-HTTP-Method-Override: \xff"),
    _sent("POST /api/uploads", *UPLOAD, "X-HTTP-Method-Override: TRACE"),
    _sent("POST /api/uploads", *UPLOAD, "X-HTTP-Method-Override: "),
    _sent("OPTIONS /api/videos", "Origin: \xff", "Access-Control-Request-Method: \xff"),
    _sent("OPTIONS *"),
    _sent("TRACE /api/videos"),
    _sent("PROPFIND /api/videos"),
    # Forms
    _form(b"name=\xff"),
    _form(b"name=title; filename=\xff"),
    _form(b"name=file; filename=x", "multipart/form-data"),
    _form(b"name=file; filename=x", "multipart/form-data; boundary=\xff"),
    _form(b"name=file; filename=x", "multipart/form-data; boundary=" + "b" * 300),
    _form(b"name=file; filename=x", "multipart/form-data; charset=no-such; boundary=c"),
    _form(b""),
    _form(b"\x00"),
]


@pytest.fixture
async def server(app: Litestar) -> AsyncIterator[Server]:
    async with serving(app) as running:
        yield running


async def _answer(server: Server, request: bytes) -> Answer:
    client = await server.connect()
    await client.send(request)
    return await client.whole_answer()


async def test_what_no_client_should_send_gets_a_4xx(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    problems = []
    with capture_logs() as logs:
        for request in REQUESTS:
            answer = await _answer(server, request)
            try:
                body = json.loads(answer.body)
                described = body.keys() == {"error", "code"} and isinstance(body["error"], str)
            except ValueError:
                described = False
            if not (400 <= answer.status < 500 and described and len(answer.body) < 1000):
                problems.append((request[:60] + request[-60:], answer.status, answer.body[:200]))
    assert not problems, "\n".join(map(str, problems))
    assert [entry for entry in logs if entry["log_level"] != "info"] == []
    assert caplog.records == []


BODY_ROUTES = [
    _sent("POST /api/session", JSON, "Content-Length: 100"),
    _sent(f"PATCH /api/videos/{ID}", JSON, AUTHORIZATION, "Content-Length: 100"),
    _sent(f"PUT /api/resumptions/{'0' * 64}", JSON, AUTHORIZATION, "Content-Length: 100"),
    _sent(f"POST /api/videos/{ID}/transcodes", JSON, AUTHORIZATION, "Content-Length: 100"),
    _sent(f"POST /api/videos/{ID}/captions/en", AUTHORIZATION, "Content-Length: 100"),
    _sent("POST /api/videos", AUTHORIZATION, "Content-Length: 100"),
    _sent(
        "POST /api/upload",
        AUTHORIZATION,
        "Content-Type: multipart/form-data; boundary=b",
        "Content-Length: 100",
    ),
    _sent("POST /api/uploads", *UPLOAD, "Upload-Length: 100", "Content-Length: 100"),
]


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_crash(
    app: Litestar, caplog: pytest.LogCaptureFixture
) -> None:
    ended = 0

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal ended
        try:
            await app(scope, receive, send)
        finally:
            ended += 1

    with capture_logs() as logs:
        async with serving(counting) as server:
            for request in BODY_ROUTES:
                client = await server.connect()
                await client.send(re.sub(rb"Content-Length: 0\r\n", b"", request) + b'{"a')
                await asyncio.sleep(0.02)  # the handler may be anywhere
                client.disconnect()
            async with asyncio.timeout(SECONDS):
                while ended < len(BODY_ROUTES):  # noqa: ASYNC110  # the server runs in this loop
                    await asyncio.sleep(0.005)
    assert [entry for entry in logs if entry["log_level"] != "info"] == []
    assert caplog.records == []
