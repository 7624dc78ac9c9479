"""A folder is made beside its place, and appears with all of its content or not at all."""

from pathlib import Path

import pytest

from worker.new_folder import FolderRejected, making, show


def test_it_appears_with_its_content_and_nothing_else_is_left(tmp_path: Path) -> None:
    with making(tmp_path / "film") as workplace:
        made = workplace / "made"
        made.mkdir()
        (made / "poster.jpg").write_text("picture")
        assert not (tmp_path / "film").exists()
        show(made, tmp_path / "film")

    assert [path.name for path in tmp_path.iterdir()] == ["film"]
    assert [path.name for path in (tmp_path / "film").iterdir()] == ["poster.jpg"]


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "film").mkdir()

    with making(tmp_path / "film") as workplace:
        (workplace / "made").mkdir()
        (workplace / "made" / "poster.jpg").touch()
        show(workplace / "made", tmp_path / "film")

    assert (tmp_path / "film" / "poster.jpg").exists()


def test_after_an_error_nothing_is_left(tmp_path: Path) -> None:
    def fail(workplace: Path) -> None:
        (workplace / "half").touch()
        raise RuntimeError

    with pytest.raises(RuntimeError), making(tmp_path / "film") as workplace:
        fail(workplace)

    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_not_mixed_in(tmp_path: Path) -> None:
    with making(tmp_path / "film") as workplace:
        pass
    (workplace / "videos").mkdir(parents=True)
    (workplace / "half").symlink_to("/nowhere")

    with making(tmp_path / "film") as again:
        assert again == workplace
        assert list(again.iterdir()) == []


def test_what_is_there_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)

    for name in ("full", "file", "link"):
        with pytest.raises(FolderRejected, match=f"{name} exists"), making(tmp_path / name):
            pass
    with making(tmp_path / "film") as workplace:
        (workplace / "made").mkdir()
        (tmp_path / "film").mkdir()
        (tmp_path / "film" / "mine").touch()
        with pytest.raises(FolderRejected, match="not empty"):
            show(workplace / "made", tmp_path / "film")

    assert (tmp_path / "film" / "mine").exists()


def test_the_current_directory_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "film").mkdir()
    monkeypatch.chdir(tmp_path / "film")

    with pytest.raises(FolderRejected, match="in use"), making(tmp_path / "film"):
        pass


def test_two_processes_cannot_make_the_same_folder(tmp_path: Path) -> None:
    with (
        making(tmp_path / "film"),
        pytest.raises(FolderRejected, match="Another process"),
        making(tmp_path / "film"),
    ):
        pass


def test_a_place_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(FolderRejected, match="No such file or directory"), making(tmp_path / "a" / "film"):
        pass
