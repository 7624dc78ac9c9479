"""Forms as old and foreign clients send them: the right file name, or our own words."""

import base64

import httpx
import pytest

ENCODED = base64.b64encode("Größe 日本.mp4".encode()).decode()


async def _post(client: httpx.AsyncClient, disposition: bytes, body: bytes = b"x") -> httpx.Response:
    form = b"--b\r\nContent-Disposition: form-data; " + disposition + b"\r\n\r\n" + body + b"\r\n--b--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    return await client.post("/api/upload", content=form, headers=headers)


@pytest.mark.parametrize(
    ("sent", "filename"),
    [
        (b'filename="a.mp4"', "a.mp4"),
        ('filename="Größe 日本.mp4"'.encode(), "Größe 日本.mp4"),
        ('filename="Größe.mp4"'.encode("latin-1"), "Größe.mp4"),
        ('filename="Preis 5 €.mp4"'.encode("cp1252"), "Preis 5 €.mp4"),
        (f'filename="=?utf-8?B?{ENCODED}?="'.encode(), "Größe 日本.mp4"),
        (b'filename="=?iso-8859-1?Q?Gr=F6=DFe.mp4?="', "Größe.mp4"),
        (f"filename=\"=?utf-8?B?{ENCODED}?=\"; filename*=utf-8''Gr%C3%B6%C3%9Fe.mp4".encode(), "Größe.mp4"),
        (b"filename*=UTF-8''Gr%C3%B6%C3%9Fe.mp4", "Größe.mp4"),
        (b"filename*=iso-8859-1'de'Gr%F6%DFe.mp4", "Größe.mp4"),
        (b"filename*=no-such''a.mp4", "a.mp4"),
        (b"filename*=idna''%41.mp4", "A.mp4"),
        (b"filename=plain.mp4", "plain.mp4"),
        (b'filename="=?utf-8?B?broken"', "=?utf-8?B?broken"),
        (b'filename="=?no-such?Q?a.mp4?="', "=?no-such?Q?a.mp4?="),
        (b'filename="a=?b.mp4"', "a=?b.mp4"),
        (b'filename="C:\\\\folder\\\\a.mp4"', "a.mp4"),
        (b'filename="a%22b.mp4"', 'a"b.mp4'),
    ],
)
@pytest.mark.parametrize("name", [b"name=file; ", b'name="file"; '])
async def test_the_name_of_the_file_is_understood(
    admin: httpx.AsyncClient, name: bytes, sent: bytes, filename: str
) -> None:
    created = await _post(admin, name + sent)
    assert created.status_code == 201, created.text
    video = (await admin.get(f"/api/videos/{created.json()['id']}")).json()
    assert video["filename"] == filename


async def test_a_title_in_latin_1_is_understood(admin: httpx.AsyncClient) -> None:
    title = b'name="title"\r\n\r\n' + "Größe".encode("latin-1")
    file = b'\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"'
    created = await _post(admin, title + file)
    assert (await admin.get(f"/api/videos/{created.json()['id']}")).json()["title"] == "Größe"


@pytest.mark.parametrize("size", [10, 50_000])
async def test_a_file_in_another_field_is_named(admin: httpx.AsyncClient, size: int) -> None:
    answer = await _post(admin, b'name="video"; filename="a.mp4"', bytes(size))
    assert (answer.status_code, answer.json()["code"]) == (400, "missing_file")
    assert "no field `file`" in answer.json()["error"]
    assert size == 10 or "`video`" in answer.json()["error"]


@pytest.mark.parametrize("disposition", [b"", b"\x00", b'name="file'])
async def test_a_malformed_form_is_refused_in_our_own_words(
    admin: httpx.AsyncClient, disposition: bytes
) -> None:
    answer = await _post(admin, disposition)
    assert answer.status_code == 400
    assert answer.json()["error"] in {
        "The body is not a valid form (multipart/form-data).",
        "The form has no field `file`.",
    }
