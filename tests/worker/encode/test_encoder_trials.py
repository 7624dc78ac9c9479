"""Which encoders are chosen. Trials are real encodes, on a fake graphics card where one is needed."""

from pathlib import Path

import pytest

from backend.core.errors import ConfigurationError
from tests.worker.encode.graphics_card import tools_with_card
from tests.worker.media_lab import TOOLS
from worker.encode import encoder_trials as encoders_module
from worker.encode.encoder_trials import choose_encoders, explain, run_trial
from worker.encode.video_encoders import LIBAOM, SOFTWARE, SVT_AV1, X264, Encoders, VideoEncoder
from worker.sandbox.tools import Tools

NODE = Path("/dev/dri/renderD128")
H264_NVENC = VideoEncoder("h264", "nvenc", "h264_nvenc", NODE)
AV1_NVENC = VideoEncoder("av1", "nvenc", "av1_nvenc", NODE)


async def test_auto_is_software_without_a_gpu() -> None:
    assert await choose_encoders(TOOLS, "auto", ("av1", "h264"), NODE) == SOFTWARE


async def test_chooses_each_codec_separately_with_a_software_fallback(tmp_path: Path) -> None:
    tools = tools_with_card(tmp_path, "h264_nvenc")

    encoders = await choose_encoders(tools, "auto", ("av1", "h264"), NODE)

    assert encoders.chosen == (SVT_AV1, H264_NVENC)
    assert encoders.fallback == SOFTWARE
    assert encoders.description == "av1 software, h264 nvenc"


async def test_gpu_with_both_codecs_encodes_both(tmp_path: Path) -> None:
    tools = tools_with_card(tmp_path, "h264_nvenc", "av1_nvenc")

    encoders = await choose_encoders(tools, "auto", ("av1", "h264"), NODE)

    assert encoders.chosen == (AV1_NVENC, H264_NVENC)
    assert encoders.description == "nvenc"


async def test_requested_encoder_that_fails_its_trial_prevents_startup(tmp_path: Path) -> None:
    tools = tools_with_card(tmp_path, "h264_nvenc")

    with pytest.raises(ConfigurationError, match=r"no encoder for av1 works here \(av1_nvenc: the GPU does"):
        await choose_encoders(tools, "nvenc", ("av1", "h264"), NODE)


async def test_requested_encoder_without_av1_encodes_h264_and_the_webm_uses_software(
    tmp_path: Path,
) -> None:
    tools = tools_with_card(tmp_path, "h264_nvenc")

    encoders = await choose_encoders(tools, "nvenc", ("h264",), NODE)

    assert encoders.chosen == (H264_NVENC, SVT_AV1)


async def test_uses_software_on_request_even_with_a_gpu(tmp_path: Path) -> None:
    tools = tools_with_card(tmp_path, "h264_nvenc", "av1_nvenc")

    assert await choose_encoders(tools, "software", ("h264", "av1"), NODE) == Encoders((X264, SVT_AV1))


async def test_skips_an_encoder_that_misplaces_keyframes(tmp_path: Path) -> None:
    tools = tools_with_card(tmp_path, "h264_nvenc", obeys_keyframes=False)

    trial = await run_trial(tools, H264_NVENC)

    assert trial.failure is not None
    assert trial.failure.reason == "keyframes requested at frames 0, 12, 24, but placed at: 0"


async def test_uses_libaom_if_ffmpeg_has_no_svt_av1(tmp_path: Path) -> None:
    tools = tools_with_card(tmp_path, without=["libsvtav1"])

    assert (await choose_encoders(tools, "auto", ("av1",), NODE)).of("av1") == LIBAOM


async def test_worker_does_not_start_without_an_encoder_for_each_codec(tmp_path: Path) -> None:
    tools = tools_with_card(tmp_path, without=["libx264"])

    with pytest.raises(ConfigurationError, match="libx264: this ffmpeg is built without libx264"):
        await choose_encoders(tools, "auto", ("av1", "h264"), NODE)


async def test_gives_up_on_a_driver_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders_module, "TRIAL_TIMEOUT_SECONDS", 0.2)
    script = tmp_path / "ffmpeg"
    script.write_text("#!/bin/sh\nsleep 60\n")
    script.chmod(0o755)

    trial = await run_trial(Tools(script, TOOLS.ffprobe, TOOLS.packager), H264_NVENC)

    assert trial.failure is not None
    assert trial.failure.reason == "not finished after 0.2 s"


def _ffmpeg_killed_at_first(tmp_path: Path, *, times: int) -> Tools:
    """A fake ffmpeg that is killed `times` times, as if out of memory, and then runs the real one."""
    script = tmp_path / "ffmpeg"
    script.write_text(
        f"""#!/bin/sh
for life in {" ".join(map(str, range(times)))}; do
    mkdir "{tmp_path}/$life" 2>/dev/null && kill -9 $$
done
exec "{TOOLS.ffmpeg}" "$@"
"""
    )
    script.chmod(0o755)
    return Tools(script, TOOLS.ffprobe, TOOLS.packager)


async def test_repeats_a_trial_that_is_killed(tmp_path: Path) -> None:
    trial = await run_trial(_ffmpeg_killed_at_first(tmp_path, times=3), X264)

    assert trial.failure is None


async def test_gives_up_on_an_encoder_whose_trials_are_always_killed(tmp_path: Path) -> None:
    trial = await run_trial(_ffmpeg_killed_at_first(tmp_path, times=20), X264)

    assert trial.failure is not None
    assert trial.failure.reason == "ffmpeg is killed every time"


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("[av1_nvenc @ 0x5] Cannot load libcuda.so.1\n[vost#0:0] x", "there is no NVIDIA driver"),
        (
            "[h264_nvenc @ 0x5] Driver does not support the required nvenc API version. Required: 13.1",
            "the NVIDIA driver is too old for this ffmpeg",
        ),
        (
            "[h264_nvenc @ 0x5] OpenEncodeSessionEx failed: out of memory (10): (no details)",
            "the GPU has no free encode session",
        ),
        (
            "[h264_vaapi @ 0x5] No usable encoding entrypoint found",
            "the GPU does not encode h264",
        ),
        ("[VAAPI @ 0x5] No VA display found for device x.", "/dev/dri/renderD128 cannot be opened"),
        ("[enc @ 0x5] [sub @ 0x6] Something new\nand more", "Something new"),
        ("", "ffmpeg ended with 7"),
    ],
)
def test_explains_ffmpeg_errors_with_a_reason_and_advice(stderr: str, reason: str) -> None:
    failure = explain(H264_NVENC, stderr, 7)

    assert failure.reason == reason
    assert failure.advice
