import errno
import os
import sys
from io import StringIO
from pathlib import PurePath

import pytest

from vidunmask.errors import InputError, UsageError
from vidunmask.pipelines.batch.inputs import collect, name_outputs


@pytest.fixture
def tree(tmp_path):
    names = ("a/talk.mp4", "b/talk.mp4", "a/deep/er/Фото 1.JPG", "a/notes.txt", "a/.hidden.mp4", "c d/#1.mkv", "out/old.mp4")
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def found(tree, *words, **options):
    items, strangers = collect(
        [str(tree / word) if not word.startswith("@") else word for word in words], out=tree / "out", **options
    )
    return [str(item.path.relative_to(tree)) for item in items], strangers


def names(tree, *words, **options):
    items, _ = collect([str(tree / word) for word in words], out=tree / "out")
    return [str(item.output) for item in name_outputs(items, **options)]


def test_a_folder_gives_all_videos_and_pictures_in_it_but_hidden_ones_and_results(tree):
    files, strangers = found(tree, "")
    assert files == ["a/talk.mp4", "a/deep/er/Фото 1.JPG", "b/talk.mp4", "c d/#1.mkv"]
    assert len(strangers) == 1


def test_the_animations_and_tapes_that_the_main_job_takes_are_videos_of_a_folder_too(tree):
    taken = [f"a/deep/take{suffix}" for suffix in (".GIF", ".apng", ".dv")]
    for name in taken:
        (tree / name).write_bytes(b"x")
    assert found(tree, "a/deep")[0][:3] == taken


def test_a_pattern_and_a_file_give_each_file_once(tree):
    assert found(tree, "*/talk.mp4", "a/talk.mp4", "**/*.mkv")[0] == ["a/talk.mp4", "b/talk.mp4", "c d/#1.mkv"]


def test_results_are_left_out_where_a_link_leads_to_them_too(tree):
    (tree / "link").symlink_to(tree / "out")
    (tree / "all").symlink_to(tree)
    expected = ["a/talk.mp4", "a/deep/er/Фото 1.JPG", "b/talk.mp4", "c d/#1.mkv"]
    for folder, out in (("all", "out"), ("", "link"), ("all", "link")):
        items, _ = collect([str(tree / folder)], out=tree / out)
        assert [str(item.path.relative_to(tree / folder)) for item in items] == expected
    items, _ = collect([str(tree / "all" / "*" / "*.mp4")], out=tree / "out")
    assert [item.path.parent.name for item in items] == ["a", "b"]


@pytest.mark.parametrize("words", [[], [""], ["a", ""]])
def test_nothing_named_is_not_the_current_folder(tree, monkeypatch, words):
    monkeypatch.chdir(tree)
    with pytest.raises(UsageError, match="no input is named"):
        collect(words, out=tree / "out")


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tree):
    (tree / "take [1].mp4").write_bytes(b"x")
    assert found(tree, "take [1].mp4")[0] == ["take [1].mp4"]


def test_a_name_that_begins_with_a_tilde_is_a_file_where_it_is_nobodys_home(tree, monkeypatch):
    monkeypatch.chdir(tree)
    (tree / "~draft.mp4").write_bytes(b"x")
    items, _ = collect(["~draft.mp4", "~*.mp4"], out=tree / "out")
    assert [item.path for item in items] == [tree / "~draft.mp4"]


def test_a_pattern_in_a_list_is_one_but_not_the_folder_of_the_list(tree):
    folder = tree / "take [1]"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"x")
    (folder / "list.txt").write_text("*.mp4\n")
    assert found(tree, f"@{folder / 'list.txt'}")[0] == ["take [1]/a.mp4"]


def test_a_list_has_paths_relative_to_itself_and_comments(tree):
    listed = tree / "a" / "my list.txt"
    listed.write_text("\ufeff# what to do\r\n\r\ntalk.mp4\r\n../c d/#1.mkv\r\n", encoding="utf-8")
    expected = ["a/talk.mp4", "c d/#1.mkv"]
    assert found(tree, f"@{listed}")[0] == expected
    assert found(tree, lists=[str(listed)])[0] == expected


def test_a_line_of_a_list_ends_only_at_a_line_feed(tree):
    name = "a\u2028b\x85c.mp4"
    (tree / name).write_bytes(b"x")
    (tree / "list.txt").write_text(f"{name}\nb/talk.mp4", encoding="utf-8")
    assert found(tree, f"@{tree / 'list.txt'}")[0] == [name, "b/talk.mp4"]


def test_a_list_can_come_through_stdin(tree, monkeypatch):
    monkeypatch.chdir(tree)
    monkeypatch.setattr(sys, "stdin", StringIO("a/talk.mp4\n"))
    assert found(tree, lists=["-"])[0] == ["a/talk.mp4"]


def test_a_file_whose_name_begins_with_an_at_sign_is_a_file(tree, monkeypatch):
    monkeypatch.chdir(tree)
    (tree / "@me.mp4").write_bytes(b"x")
    assert found(tree, "@me.mp4")[0] == ["@me.mp4"]


def test_what_is_not_there_is_named_and_the_others_are_found(tree):
    items, _ = collect([str(tree / "a" / "talk.mp4"), str(tree / "no.mp4"), str(tree / "x*.mp4")], out=tree / "out")
    assert [item.problem.rpartition(": ")[2] for item in items] == [
        "",
        "no such file or folder",
        "no file matches this pattern",
    ]


def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_found(tree, monkeypatch):
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("deep"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    items, _ = collect([str(tree / "a")], out=tree / "out")
    said = f"{tree / 'a' / 'deep'}: cannot be read (Permission denied)"
    assert [(str(item.relative), item.problem) for item in items] == [("talk.mp4", ""), ("deep", said)]
    with pytest.raises(InputError, match="deep: cannot be read"):
        collect([str(tree / "a" / "deep")], out=tree / "out")


def test_a_name_that_is_too_long_is_named_and_the_others_are_found(tree):
    items, _ = collect([str(tree / "a" / "talk.mp4"), f"{'x' * 300}.mp4"], out=tree / "out")
    assert [item.problem for item in items] == ["", f"{'x' * 300}.mp4: cannot be read (File name too long)"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("no.mp4", "no such file"),
        ("empty", "holds no videos"),
        ("@no.txt", "no.txt: cannot be read"),
        ("@print0.txt", "one path a line"),
    ],
)
def test_nothing_to_do_is_an_input_error(tree, word, said, monkeypatch):
    monkeypatch.chdir(tree)
    (tree / "empty").mkdir()
    (tree / "print0.txt").write_text("a/talk.mp4\0b/talk.mp4\0")
    with pytest.raises(InputError, match=said):
        found(tree, word)


def test_results_lie_as_the_files_lay_in_their_folder(tree):
    assert names(tree, "a") == ["talk.mp4", "deep/er/Фото 1.JPG"]
    assert names(tree, "") == ["a/talk.mp4", "a/deep/er/Фото 1.JPG", "b/talk.mp4", "c d/#1.mkv"]


def test_files_of_one_name_do_not_collide(tree):
    assert names(tree, "a", "b")[0::2] == ["a/talk.mp4", "b/talk.mp4"]
    assert names(tree, "a/talk.mp4", "b/talk.mp4") == ["a/talk.mp4", "b/talk.mp4"]
    (tree / "b" / "TALK.mp4").write_bytes(b"x")
    (tree / "x" / "b").mkdir(parents=True)
    (tree / "x" / "b" / "talk.mp4").write_bytes(b"x")
    all_names = names(tree, "a/talk.mp4", "b/talk.mp4", "x/b/talk.mp4", "b/TALK.mp4")
    assert all_names[:3] == ["a/talk.mp4", "b/talk.mp4", "x/b/talk.mp4"]
    assert len({name.casefold() for name in all_names}) == 4


def test_two_videos_that_get_one_extension_do_not_collide(tree):
    (tree / "a" / "talk.mkv").write_bytes(b"x")
    given = names(tree, "a", container="mkv")
    assert given[0].endswith("talk.mkv")
    assert len(set(given)) == 3
    assert given[-1] == "deep/er/Фото 1.JPG"


def test_a_file_keeps_the_name_it_got_in_an_earlier_run(tree):
    one = {str(tree / "a" / "talk.mp4"): "talk.mp4"}
    assert names(tree, "a/talk.mp4", "b/talk.mp4", before=one) == ["talk.mp4", "b/talk.mp4"]
    assert names(tree, "b/talk.mp4", before=one) == ["b/talk.mp4"]  # what another file got is not given again


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_name_that_is_no_unicode_is_found(tree):
    (tree / "b" / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"x")
    items, _ = collect([str(tree / "b")], out=tree / "out")
    assert PurePath(os.fsdecode(b"caf\xe9.mp4")) in [item.output for item in name_outputs(items)]
