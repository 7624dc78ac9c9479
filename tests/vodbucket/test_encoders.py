"""`vodbucket encoders` as a process, with and without a simulated GPU."""

from pathlib import Path

import pytest

from tests.vodbucket.conftest import Installation
from tests.worker.encode.graphics_card import tools_with_card


@pytest.mark.heavy
async def test_tries_every_encoder_and_chooses_software_without_a_gpu(
    on_moto: Installation,
) -> None:
    done = await on_moto.vodbucket("encoders", "--json")

    rows = {row["encoder"]: row for row in done.json["rows"]}
    assert (done.status, done.json["ok"], done.json["missing"]) == (0, True, [])
    assert list(rows) == [
        *("av1_nvenc", "av1_qsv", "av1_vaapi", "av1_videotoolbox", "libsvtav1", "libaom-av1"),
        *("h264_nvenc", "h264_qsv", "h264_vaapi", "h264_videotoolbox", "libx264"),
    ]
    assert {name for name, row in rows.items() if row["result"] == "chosen"} == {"libsvtav1", "libx264"}
    assert rows["libaom-av1"]["result"] == "works"
    assert all((row["result"] == "fails") == bool(row["reason"] and row["advice"]) for row in rows.values())
    assert all(row["seconds"] > 0 for row in rows.values())


async def test_exits_with_1_and_the_reason_when_the_chosen_encoder_lacks_a_codec(
    on_moto: Installation, tmp_path: Path
) -> None:
    tools = tools_with_card(tmp_path, "h264_nvenc")

    done = await on_moto.vodbucket("encoders", FFMPEG=str(tools.ffmpeg), VIDEO_SERVER_ENCODER="nvenc")

    rows = {line.split()[1]: " ".join(line.split()[2:]) for line in done.out.splitlines() if " s " in line}
    assert done.status == 1
    assert rows["h264_nvenc"].startswith("chosen ")
    assert rows["libsvtav1"].startswith("works ")
    assert rows["av1_nvenc"].startswith("fails ")
    assert rows["av1_nvenc"].endswith(" s the GPU does not encode av1")
    settings = "VIDEO_SERVER_ENCODER=nvenc and RENDITION_CODECS=av1,h264"
    assert done.err.splitlines() == [f"vodbucket: no encoder for av1 works here with {settings}"]


@pytest.mark.parametrize("variable", ["FFMPEG", "FFPROBE", "PACKAGER"])
async def test_names_a_tool_that_is_another_program(on_moto: Installation, variable: str) -> None:
    done = await on_moto.vodbucket("encoders", **{variable: "/bin/true"})

    assert done.status != 0
    assert f"{variable}: /bin/true is not {variable.lower()}" in done.err
