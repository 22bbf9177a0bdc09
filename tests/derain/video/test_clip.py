"""A video file in, a video file out: all is there, in time and in its colours, and runs go on."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.stream import AttachmentStream

import derain.video.clip
from derain.arrays import Image
from derain.errors import ImageTooLargeError
from derain.images.formats import JPEG
from derain.images.plain import encode
from derain.inference.engine import Engine
from derain.video.clip import derain_clip
from derain.video.errors import VideoError
from derain.video.options import ClipOptions, DerainedVideo
from tests.conftest import scene
from tests.derain.video.clips import (
    FRAMES,
    HEIGHT,
    WIDTH,
    Clip,
    flat,
    frames,
    moving,
    packets,
    plane,
    rgb,
    stamps,
    write_clip,
)

pytestmark = pytest.mark.slow


def derained(engine: Engine, source: Path, target: Path, **options: Any) -> DerainedVideo:
    return derain_clip(engine, source, target, ClipOptions(10**8, **options))


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small video has several."""
    monkeypatch.setattr(derain.video.clip, "SEGMENT_FRAMES", 5)


def test_frames_sound_and_their_times_are_kept(engine: Engine, tmp_path: Path) -> None:
    source, target = write_clip(tmp_path / "a.mp4", Clip(has_sound=True)), tmp_path / "b.mp4"
    result = derained(engine, source, target)
    assert result == DerainedVideo(WIDTH, HEIGHT, FRAMES, FRAMES, (), None)
    assert stamps(target) == stamps(source)
    assert [each[:2] for each in packets(target, "video")] == [each[:2] for each in packets(source, "video")]
    assert packets(target, "audio") == packets(source, "audio")
    with av.open(str(target)) as file:
        assert file.duration == 400_000
        assert file.streams.video[0].codec_context.name == "h264"
        assert file.streams.video[0].pix_fmt == "yuv420p"


def test_frames_are_derained(engine: Engine, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mkv", Clip(codec="ffv1", options={}))
    derained(engine, source, tmp_path / "b.mkv", codec="ffv1", temporal=False)
    for before, after in zip(frames(source), frames(tmp_path / "b.mkv"), strict=True):
        wanted = engine.derain(rgb(before))
        found = rgb(after)
        assert np.abs(wanted.astype(float) - found)[4:-4, 4:-4].mean() < 2  # chroma is coarse
        assert np.abs(wanted.astype(float) - rgb(before))[4:-4, 4:-4].mean() > 2.5


def test_frames_show_one_another_what_rain_hides(tmp_path: Path) -> None:
    """Before a camera that stands, by the models that come along."""
    width, height = 160, 128
    ground = scene(height, width)

    def wet(number: int) -> Image:
        rng, image = np.random.default_rng(number), ground.copy()
        for x, y in rng.integers(0, width, (40, 2)).tolist():
            cv2.line(image, (x, y), (x + 2, y + 14), (230, 230, 230), 1, cv2.LINE_AA)
        return image

    clip = Clip(codec="ffv1", options={}, draw=wet, size=(width, height))
    source, engine = write_clip(tmp_path / "a.mkv", clip), Engine()
    errors = []
    for temporal in (False, True):
        target = tmp_path / f"{temporal}.mkv"
        derained(engine, source, target, codec="ffv1", temporal=temporal, force=True)
        errors.append(np.mean([np.abs(rgb(frame).astype(float) - ground).mean() for frame in frames(target)]))
    engine.close()
    alone, together = errors
    assert together < 0.8 * alone, errors


def test_times_of_a_variable_rate_are_kept(engine: Engine, tmp_path: Path) -> None:
    times = [0, 400, 900, 2200, 2300, 2400, 7000, 7001, 9000, 9500, 9600, 12_000]
    source = write_clip(tmp_path / "a.mp4", Clip(stamps=times))
    derained(engine, source, tmp_path / "b.mp4")
    assert stamps(tmp_path / "b.mp4") == [Fraction(time, 15_360) for time in times] == stamps(source)


def test_a_frame_lasts_as_long_as_it_did(engine: Engine, tmp_path: Path) -> None:
    """Else the last one would be cut off."""
    source = write_clip(tmp_path / "a.mp4", Clip(stamps=[0, 1000, 5000]))
    derained(engine, source, tmp_path / "b.mp4")
    for path in (source, tmp_path / "b.mp4"):
        with av.open(str(path)) as file:
            assert file.duration is not None
            assert file.streams.video[0].duration == 5512


def _colours(stream: Any) -> None:
    context = stream.codec_context
    context.color_range, context.colorspace, context.color_trc, context.color_primaries = 2, 9, 16, 9
    context.sample_aspect_ratio = Fraction(4, 3)
    stream.set_display_rotation(90)


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_what_a_player_needs_to_know_is_kept(codec: str, engine: Engine, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", Clip(set_up=_colours))
    derained(engine, source, tmp_path / "b.mp4", codec=codec)
    with av.open(str(tmp_path / "b.mp4")) as file:
        stream = file.streams.video[0]
        context = stream.codec_context
        found = context.color_range, context.colorspace, context.color_trc, context.color_primaries
        assert found == (2, 9, 16, 9)
        assert stream.sample_aspect_ratio == Fraction(4, 3)
        assert next(file.decode(stream)).rotation == 90


def test_ten_bits_stay_ten(engine: Engine, tmp_path: Path) -> None:
    """In HEVC, under the tag that Apple's players know."""
    source = write_clip(tmp_path / "a.mp4", Clip(pixel_format="yuv420p10le"))
    assert derained(engine, source, tmp_path / "b.mp4").dropped == ()
    with av.open(str(tmp_path / "b.mp4")) as file:
        context = file.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.codec_tag) == ("hevc", "yuv420p10le", "hvc1")
    assert len(set(plane(frames(tmp_path / "b.mp4")[0], 0, np.uint16) % 4)) == 4


def test_what_a_codec_cannot_hold_is_told(engine: Engine, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", Clip(pixel_format="yuv444p10le"))
    result = derained(engine, source, tmp_path / "b.mp4", codec="h264")
    assert result.dropped == ("more than 8 bits", "colour at full resolution")
    assert derained(engine, source, tmp_path / "b.mkv", codec="ffv1").dropped == ()
    assert frames(tmp_path / "b.mkv")[0].format.name == "yuv444p10le"


def test_the_index_of_an_mp4_comes_first(engine: Engine, tmp_path: Path) -> None:
    derained(engine, write_clip(tmp_path / "a.mp4"), tmp_path / "b.mp4")
    data = (tmp_path / "b.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_a_portrait_is_derained_upright(engine: Engine, tmp_path: Path) -> None:
    """Networks know rain that falls down."""
    lossless: dict[str, Any] = {"pixel_format": "yuv444p", "options": {"crf": "0"}}
    plain = write_clip(tmp_path / "plain.mov", Clip(**lossless))
    turned = write_clip(
        tmp_path / "turned.mov",
        Clip(
            draw=lambda number: np.ascontiguousarray(np.rot90(moving(number), -1)),
            size=(HEIGHT, WIDTH),
            set_up=lambda stream: stream.set_display_rotation(90),
            **lossless,
        ),
    )
    for source in (plain, turned):
        derained(engine, source, source.with_suffix(".mkv"), codec="ffv1")
    for one, other in zip(frames(tmp_path / "plain.mkv"), frames(tmp_path / "turned.mkv"), strict=True):
        upright = np.rot90(other.to_ndarray(format="gray"), 1)
        assert np.abs(one.to_ndarray(format="gray").astype(int) - upright).max() <= 1


def _with_everything(path: Path) -> Path:
    """Sound, a subtitle, chapters, a font and a title."""
    (path.parent / "a.srt").write_text("1\n00:00:00,100 --> 00:00:00,300\nIt rains.\n\n")
    clip = write_clip(path.with_name("plain.mkv"), Clip(has_sound=True))
    with (
        av.open(str(clip)) as source,
        av.open(str(path.parent / "a.srt")) as text,
        av.open(str(path), "w") as out,
    ):
        added = [out.add_stream_from_template(each, opaque=True) for each in source.streams]
        line = out.add_stream_from_template(text.streams.subtitles[0], opaque=True)
        line.metadata["language"] = "eng"
        out.add_attachment("rain.ttf", "font/ttf", b"a font")
        out.set_chapters(
            [{"id": 1, "start": 0, "end": 250, "time_base": Fraction(1, 1000), "metadata": {"title": "Rain"}}]
        )
        out.metadata["title"] = "A street"
        for packet in [*source.demux(), *text.demux()]:
            if packet.size:
                packet.stream = added[packet.stream_index] if packet.stream.container is source else line
                out.mux(packet)
    return path


def test_subtitles_chapters_fonts_and_titles_are_kept(engine: Engine, tmp_path: Path) -> None:
    source, target = _with_everything(tmp_path / "a.mkv"), tmp_path / "b.mkv"
    assert derained(engine, source, target).dropped == ()
    assert packets(target, "subtitle") == packets(source, "subtitle")
    assert packets(target, "audio") == packets(source, "audio")
    with av.open(str(target)) as after, av.open(str(source)) as before:
        assert [each.type for each in after.streams] == [each.type for each in before.streams]
        assert after.chapters() == before.chapters() != []
        assert after.metadata["title"] == "A street"
        assert after.streams.subtitles[0].language == "eng"
        font = after.streams[3]
        assert isinstance(font, AttachmentStream) and font.data == b"a font"


def _with_cover(path: Path) -> Path:
    """A picture of the film, as players show it in lists."""
    clip = write_clip(path.with_name("plain.mp4"))
    picture = encode(scene(16, 16), JPEG)
    (path.parent / "cover.jpg").write_bytes(picture)
    with (
        av.open(str(clip)) as source,
        av.open(str(path.parent / "cover.jpg")) as image,
        av.open(str(path), "w") as out,
    ):
        video = out.add_stream_from_template(source.streams.video[0], opaque=True)
        cover = out.add_stream_from_template(image.streams.video[0], opaque=True)
        cover.disposition = av.stream.Disposition.attached_pic
        for packet in [*image.demux(), *source.demux()]:
            if packet.size:
                packet.stream = video if packet.stream.container is source else cover
                out.mux(packet)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_cover_stays_one(suffix: str, engine: Engine, tmp_path: Path) -> None:
    source = _with_cover(tmp_path / "a.mp4")
    assert derained(engine, source, tmp_path / f"b{suffix}").dropped == ()
    with av.open(str(tmp_path / f"b{suffix}")) as file:
        video, cover = file.streams.video
        assert cover.disposition & av.stream.Disposition.attached_pic
        assert not video.disposition & av.stream.Disposition.attached_pic
        (packet,) = [each for each in file.demux(cover) if each.size]
        assert bytes(packet) == (tmp_path / "cover.jpg").read_bytes()


def test_metadata_may_be_left_out(engine: Engine, tmp_path: Path) -> None:
    source = _with_everything(tmp_path / "a.mkv")
    derained(engine, source, tmp_path / "b.mkv", keeps_metadata=False)
    with av.open(str(tmp_path / "b.mkv")) as file:
        assert "title" not in file.metadata
        assert [each.type for each in file.streams] == ["video", "audio", "subtitle"]


def test_subtitles_without_a_place_are_an_error_that_names_one(engine: Engine, tmp_path: Path) -> None:
    source = _with_everything(tmp_path / "a.mkv")
    with pytest.raises(VideoError, match=r"MP4 cannot hold .*: subtitle in srt; .mkv can"):
        derained(engine, source, tmp_path / "b.mp4")
    assert not (tmp_path / "b.mp4").exists()


# Scenes


def test_a_dry_video_keeps_its_frames_as_they_were_encoded(estimating: Engine, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", Clip(draw=flat(*[20] * FRAMES), has_sound=True))
    result = derained(estimating, source, tmp_path / "b.mp4")
    assert (result.frames, result.derained) == (FRAMES, 0)
    assert packets(tmp_path / "b.mp4", "video") == packets(source, "video")
    assert derained(estimating, source, tmp_path / "c.mp4", force=True).derained == FRAMES
    assert derained(estimating, source, tmp_path / "c.mp4", codec="hevc").derained == 0
    assert frames(tmp_path / "c.mp4")[0].planes[0].width == WIDTH


def test_a_strength_of_zero_changes_nothing(engine: Engine, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4")
    assert derained(engine, source, tmp_path / "b.mp4", strength=0.0).derained == 0
    assert packets(tmp_path / "b.mp4", "video") == packets(source, "video")


# Runs that end early


class _Killed(BaseException):
    pass


def _stop_at(frame: int, how: type[BaseException]) -> Any:
    def note(done: int, of: int) -> None:
        if done == frame:
            raise how

    return note


@pytest.mark.parametrize("draw", [moving, flat(*[45] * 3, *[60] * 9)], ids=["moving", "scenes"])
def test_a_killed_run_goes_on_to_the_same_result(draw: Any, estimating: Engine, tmp_path: Path) -> None:
    """In FFV1, for x264 itself does not repeat each byte at small sizes."""
    source = write_clip(tmp_path / "a.mp4", Clip(draw=draw, has_sound=True))
    derained(estimating, source, tmp_path / "whole.mkv", codec="ffv1")
    options, target = ClipOptions(10**8, codec="ffv1"), tmp_path / "b.mkv"
    for frame in (3, 7, 12):
        with pytest.raises(_Killed):
            derain_clip(estimating, source, target, options, _stop_at(frame, _Killed))
        assert not target.exists()
    begun: list[int] = []
    derain_clip(estimating, source, target, options, lambda done, of: begun.append(done))
    assert begun[0] == 10  # two segments were done
    for kind in ("video", "audio"):
        assert packets(target, kind) == packets(tmp_path / "whole.mkv", kind)
    assert not (tmp_path / "b.mkv.unfinished").exists()


@pytest.mark.parametrize(
    "left", [b"", b"\0" * 40, b'{"frames": 5', b"{}"], ids=["empty", "zeros", "cut", "none"]
)
def test_a_segment_whose_facts_are_not_whole_is_done_again(
    left: bytes, engine: Engine, tmp_path: Path
) -> None:
    """As a failure of the power may leave them, also where those of later ones are whole."""
    source, target = write_clip(tmp_path / "a.mp4"), tmp_path / "b.mp4"
    with pytest.raises(_Killed):
        derain_clip(engine, source, target, ClipOptions(10**8), _stop_at(12, _Killed))
    work = tmp_path / "b.mp4.unfinished"
    (work / "00000.json").write_bytes(left)
    with pytest.raises(_Killed):
        derain_clip(engine, source, target, ClipOptions(10**8), _stop_at(7, _Killed))
    assert (work / "00000.json").read_bytes() != left
    assert not (work / "00001.json").exists()  # it is of packets that are written anew
    derained(engine, source, target)
    assert stamps(target) == stamps(source)


def test_a_run_with_other_options_begins_anew(engine: Engine, tmp_path: Path) -> None:
    source, target = write_clip(tmp_path / "a.mp4"), tmp_path / "b.mp4"
    with pytest.raises(_Killed):
        derain_clip(engine, source, target, ClipOptions(10**8), _stop_at(7, _Killed))
    begun: list[int] = []
    derain_clip(engine, source, target, ClipOptions(10**8, crf=30), lambda done, of: begun.append(done))
    assert begun[0] == 0
    assert len(frames(target)) == FRAMES


def test_an_interrupted_run_leaves_what_plays(engine: Engine, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", Clip(has_sound=True))
    with pytest.raises(KeyboardInterrupt) as interrupt:
        derain_clip(engine, source, tmp_path / "b.mp4", ClipOptions(10**8), _stop_at(7, KeyboardInterrupt))
    so_far = tmp_path / "b.mp4.unfinished" / "so-far.mp4"
    (note,) = interrupt.value.__notes__
    assert f"{so_far} has the 7 frames that are done" in note
    assert stamps(so_far) == stamps(source)[:7]
    assert len(packets(so_far, "audio")) < len(packets(source, "audio"))
    derained(engine, source, tmp_path / "b.mp4")
    assert stamps(tmp_path / "b.mp4") == stamps(source)


def test_two_runs_do_not_write_one_result(engine: Engine, tmp_path: Path) -> None:
    source, target = write_clip(tmp_path / "a.mp4"), tmp_path / "b.mp4"

    def note(done: int, of: int) -> None:
        with pytest.raises(VideoError, match=r"another run is at work on .*b\.mp4"):
            derained(engine, source, target)

    derain_clip(engine, source, target, ClipOptions(10**8), note)
    assert len(frames(target)) == FRAMES


# What is not as it should be


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_video_that_is_cut_short_gives_what_can_be_had(suffix: str, engine: Engine, tmp_path: Path) -> None:
    long = Clip(
        stamps=[512 * number for number in range(60)],
        container_options={"movflags": "faststart"} if suffix == ".mp4" else {},
        options={"crf": "10", "preset": "ultrafast", "g": "10"},
    )
    source = write_clip(tmp_path / f"a{suffix}", long)
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) // 2])
    result = derained(engine, source, tmp_path / "b.mp4")
    assert 5 < result.frames < 55
    assert result.shortage is not None
    assert result.shortage.startswith(
        f"the file is cut short: {result.frames / 30:.1f} of 2.0 s could be read"
    )
    assert len(frames(tmp_path / "b.mp4")) == result.frames


def test_a_name_with_a_colon_is_no_address(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "a.mp4")
    derained(engine, Path("a.mp4"), Path("2024-05-01T12:30:00.mp4"))
    assert len(frames(tmp_path / "2024-05-01T12:30:00.mp4")) == FRAMES


def test_a_file_that_says_no_more_than_its_length(engine: Engine, tmp_path: Path) -> None:
    """As some write Matroska: it may be the sound that is so long, and then nothing is missing."""
    long = Clip(stamps=[512 * number for number in range(60)], has_sound=True)
    source = write_clip(tmp_path / "a.mkv", long)
    data = source.read_bytes().replace(b"DURATION", b"DURATIOX")
    source.write_bytes(data)
    assert derained(engine, source, tmp_path / "b.mkv").shortage is None
    source.write_bytes(data[: len(data) // 2])
    shortage = derained(engine, source, tmp_path / "b.mkv").shortage
    assert shortage is not None and "of 2.0 s could be read" in shortage


def test_a_damaged_video_says_so(engine: Engine, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mkv", Clip(options={"crf": "1", "g": "4"}))
    data = bytearray(source.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 300] = bytes(range(1, 101)) * 3
    source.write_bytes(data)
    result = derained(engine, source, tmp_path / "b.mp4")
    assert result.shortage is not None
    assert "could not be read, or only in part" in result.shortage or "cut short" in result.shortage


def _sound_alone(path: Path) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 48_000, 0
        out.mux([*stream.encode(frame), *stream.encode()])


def _encrypted(path: Path) -> None:
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "00" * 16, "encryption_kid": "11" * 16}
    write_clip(path, Clip(container_options=key))


def _transparent(path: Path) -> None:
    write_clip(path, Clip(codec="qtrle", pixel_format="argb", options={}))


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("a.mp4", lambda path: path.touch(), "a.mp4 is empty"),
        ("a.mp4", lambda path: path.write_bytes(b"no video" * 99), "a.mp4 cannot be read as a video"),
        (
            "a.m4v",
            lambda path: path.write_text("#EXTM3U\n#EXTINF:1\nother.ts"),
            "a.m4v cannot be read as a vid",
        ),
        ("a.mp4", _sound_alone, "a.mp4 has no video, only: audio"),
        ("a.mp4", _encrypted, "a.mp4 is encrypted: its key is not in the file"),
        ("a.mov", _transparent, "a.mov has transparency, which h264 cannot hold: ffv1 can, in a .mkv"),
        ("a.mp4", lambda path: os.mkfifo(path), "a.mp4 is no file"),
        (
            "a.y4m",
            lambda path: path.write_bytes(b"YUV4MPEG2 W16 H16 F25:1\n"),
            "a.y4m has no frame that can be decoded",
        ),
    ],
)
def test_what_cannot_be_derained_says_why(
    name: str, make: Any, said: str, engine: Engine, tmp_path: Path
) -> None:
    make(tmp_path / name)
    with pytest.raises(VideoError) as error:
        derained(engine, tmp_path / name, tmp_path / "b.mp4")
    assert said in str(error.value)
    assert not (tmp_path / "b.mp4").exists()
    assert not (tmp_path / "b.mp4.unfinished").exists()


def test_a_cut_mp4_without_its_index_says_why(engine: Engine, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4")
    source.write_bytes(source.read_bytes()[:-2000])
    with pytest.raises(VideoError, match="cut short before its index"):
        derained(engine, source, tmp_path / "b.mp4")


def test_frames_that_are_too_large_are_not_decoded(engine: Engine, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4")
    with pytest.raises(ImageTooLargeError, match="64 x 48 pixels are 3,072, 3,000 are allowed"):
        derain_clip(engine, source, tmp_path / "b.mp4", ClipOptions(3000))


@pytest.mark.parametrize(
    ("options", "name", "said"),
    [
        ({"codec": "vp8"}, "b.mp4", "no codec 'vp8': there are h264, hevc, av1, ffv1"),
        ({"codec": "ffv1"}, "b.mp4", "MP4 is not written with ffv1, but with h264, hevc, av1"),
        ({"crf": 52}, "b.mp4", "the crf of h264 is from 0 to 51, not 52"),
        ({"crf": 9, "codec": "ffv1"}, "b.mkv", "a crf of 9 was asked for, but ffv1 loses nothing"),
        ({}, "b.avi", "a video can be written as .mp4, .m4v, .mov, .mkv, .webm, not '.avi'"),
    ],
)
def test_options_that_there_are_not(
    options: dict[str, Any], name: str, said: str, engine: Engine, tmp_path: Path
) -> None:
    source = write_clip(tmp_path / "a.mp4")
    with pytest.raises(VideoError) as error:
        derained(engine, source, tmp_path / name, **options)
    assert said in str(error.value)


def test_transparency_goes_through_ffv1(engine: Engine, tmp_path: Path) -> None:
    _transparent(tmp_path / "a.mov")
    derained(engine, tmp_path / "a.mov", tmp_path / "b.mkv", codec="ffv1")
    assert frames(tmp_path / "b.mkv")[0].format.name == "yuva444p"


@pytest.mark.parametrize(("codec", "size"), [("h264", (64, 48)), ("av1", (63, 47)), ("ffv1", (63, 47))])
def test_odd_sizes(codec: str, size: tuple[int, int], engine: Engine, tmp_path: Path) -> None:
    """H.264 has none: the last row and column are there twice."""
    odd = Clip(draw=lambda number: moving(number, 47, 63), size=(63, 47), codec="ffv1", options={})
    source = write_clip(tmp_path / "a.mkv", odd)
    result = derained(engine, source, tmp_path / "b.mkv", codec=codec)
    assert (result.width, result.height) == size
    found = frames(tmp_path / "b.mkv")
    assert {(each.width, each.height) for each in found} == {size}
    assert len(found) == FRAMES


def _range(number: int) -> Any:
    def set_up(stream: Any) -> None:
        stream.codec_context.color_range = number

    return set_up


@pytest.mark.parametrize("colour_range", [0, 1, 2])
@pytest.mark.parametrize("pixel_format", ["gray", "yuv444p", "yuvj420p", "rgb24", "yuyv422", "nv12"])
def test_black_and_white_stay_where_they_are(
    pixel_format: str, colour_range: int, engine: Engine, tmp_path: Path
) -> None:
    """Whatever the pixel format, and whether its levels go from 16 to 235 or from 0 to 255."""
    codec = {"gray": "ffv1", "yuv444p": "ffv1", "yuvj420p": "mjpeg"}.get(pixel_format, "rawvideo")
    suffix = {"ffv1": ".mkv", "mjpeg": ".mov"}.get(codec, ".avi" if pixel_format == "nv12" else ".mov")
    flat_ones = Clip(
        draw=flat(*[10, 128, 245] * 4),
        codec=codec,
        pixel_format=pixel_format,
        options={},
        set_up=_range(colour_range),
    )
    source = write_clip(tmp_path / f"a{suffix}", flat_ones)
    derained(engine, source, tmp_path / "b.mp4", strength=0.0, codec="h264", crf=5)
    for before, after in list(zip(frames(source), frames(tmp_path / "b.mp4"), strict=True))[:3]:
        assert abs(rgb(before).astype(float).mean() - rgb(after).mean()) < 2.5


def test_a_rate_that_is_none_is_no_matter(engine: Engine, tmp_path: Path) -> None:
    """AVI names a rate of its clock."""
    source = write_clip(tmp_path / "a.avi", Clip(codec="rawvideo", pixel_format="nv12", options={}))
    with av.open(str(source)) as file:
        assert (file.streams.video[0].average_rate or 0) > 240
    derained(engine, source, tmp_path / "b.mp4", codec="av1")
    assert stamps(tmp_path / "b.mp4") == stamps(source)


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="threads have no policy here")
def test_no_thread_is_left_real_time(engine: Engine, tmp_path: Path) -> None:
    """As root SVT-AV1 makes the caller so, and with it every process that it starts afterwards."""
    source = write_clip(tmp_path / "a.mp4")
    derained(engine, source, tmp_path / "b.mp4", codec="av1")
    threads = [int(task.name) for task in Path("/proc/self/task").iterdir()]
    assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_OTHER}


def _interlaced(path: Path) -> Path:
    """Each frame's rows come from two moments."""

    def draw(number: int) -> Any:
        picture = moving(4 * number)
        picture[1::2] = moving(4 * number + 2)[1::2]
        return picture

    options = {"crf": "5", "x264-params": "tff=1"}
    return write_clip(path, Clip(draw=draw, options=options))


def test_fields_of_interlaced_video_are_derained_apart(engine: Engine, tmp_path: Path) -> None:
    source = _interlaced(tmp_path / "a.mp4")
    assert frames(source)[0].interlaced_frame
    derained(engine, source, tmp_path / "b.mp4")
    assert all(each.interlaced_frame for each in frames(tmp_path / "b.mp4"))
    derained(engine, source, tmp_path / "b.mkv", codec="ffv1")
    before, after = (rgb(frames(path)[3]) for path in (source, tmp_path / "b.mkv"))
    for start in (0, 1):
        field = engine.derain(np.ascontiguousarray(before[start::2]))
        assert np.abs(field.astype(float) - after[start::2])[4:-4, 4:-4].mean() < 4
    with pytest.raises(VideoError, match="is interlaced, which av1 is not written with: h264 and ffv1 are"):
        derained(engine, source, tmp_path / "c.mp4", codec="av1")


def test_a_clock_that_runs_on_begins_at_zero(engine: Engine, tmp_path: Path) -> None:
    """MPEG-TS, as cameras write it; picture and sound stay together."""
    later = {"output_ts_offset": "10"}
    source = write_clip(tmp_path / "a.mts", Clip(has_sound=True, container_options=later))
    assert stamps(source)[0] > 1
    derained(engine, source, tmp_path / "b.mp4")
    distance = stamps(source)[0] - packets(source, "audio")[0][0]
    found = stamps(tmp_path / "b.mp4")[0] - packets(tmp_path / "b.mp4", "audio")[0][0]
    assert abs(float(found - distance)) < 0.001
    assert 0 <= stamps(tmp_path / "b.mp4")[0] < 0.1
