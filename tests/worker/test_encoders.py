"""Which encoder is chosen: trials are real encodes, here by stand-ins for ffmpeg that pass or fail."""

from pathlib import Path

import pytest

from backend.core.errors import ConfigurationError
from tests.worker.media_lab import TOOLS
from worker.devices import SOFTWARE
from worker.encoders import choose_device
from worker.tools import Tools

DEVICE = Path("/dev/dri/renderD128")


def ffmpeg_with(tmp_path: Path, *encoders: str) -> Tools:
    """An ffmpeg that succeeds only when asked for one of these encoders."""
    script = tmp_path / "ffmpeg"
    cases = "|".join(encoders)
    script.write_text(f'#!/bin/sh\nfor word; do case "$word" in {cases}) exit 0;; esac; done\nexit 1\n')
    script.chmod(0o755)
    return Tools(script, TOOLS.ffprobe, TOOLS.packager)


async def test_the_bundled_ffmpeg_has_no_hardware_encoder_and_auto_falls_back_to_software() -> None:
    assert await choose_device(TOOLS, "auto", ("av1", "h264"), DEVICE) == SOFTWARE


async def test_auto_takes_the_first_hardware_that_really_encodes_every_codec(tmp_path: Path) -> None:
    tools = ffmpeg_with(tmp_path, "h264_nvenc", "av1_qsv", "h264_qsv")

    assert (await choose_device(tools, "auto", ("av1", "h264"), DEVICE)).encoder == "qsv"
    assert (await choose_device(tools, "auto", ("h264",), DEVICE)).encoder == "nvenc"


async def test_a_named_encoder_that_fails_its_trial_stops_the_start(tmp_path: Path) -> None:
    tools = ffmpeg_with(tmp_path, "h264_nvenc")

    with pytest.raises(ConfigurationError, match="VIDEO_SERVER_ENCODER: nvenc cannot encode av1"):
        await choose_device(tools, "nvenc", ("av1", "h264"), DEVICE)
