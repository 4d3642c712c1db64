"""Progress outlives the process, loses no count, and no broken or forbidden file stops an exercise."""

import json
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from diffusion_course.exercises import locks
from diffusion_course.exercises import overview as pictures
from diffusion_course.exercises.engine import Result
from diffusion_course.exercises.record import Record, default_path
from diffusion_course.exercises.registry import all_exercises

RIGHT, WRONG, BLANK = (Result("02.1", status, "") for status in ("right", "wrong", "unanswered"))


def test_progress_outlives_the_process(tmp_path):
    path = tmp_path / "deep" / "progress.json"
    first = Record(path)
    for result in (BLANK, WRONG, RIGHT, WRONG):
        first.add(result)
    again = Record(path)
    assert (again.state("02.1"), again.attempts("02.1"), again.state("02.2")) == ("done", 3, "open")
    assert json.loads(path.read_text())["exercises"] == {"02.1": {"attempts": 3, "done": True, "hints": 0}}
    assert [one.name for one in path.parent.iterdir()] == ["progress.json"]


def test_a_new_process_begins_with_the_first_hint_and_the_count_stays(tmp_path):
    first = Record(tmp_path / "p.json")
    assert [first.next_hint("02.1", 3) for _ in range(4)] == [0, 1, 2, 2]
    again = Record(tmp_path / "p.json")
    assert again.hints("02.1") == 3
    assert again.next_hint("02.1", 3) == 0
    assert again.hints("02.1") == 3


def test_two_processes_lose_no_count(tmp_path):
    code = (
        "import sys; from pathlib import Path; from diffusion_course.exercises.record import Record\n"
        "from diffusion_course.exercises.engine import Result\n"
        "one = Record(Path(sys.argv[1]))\n"
        "for _ in range(50): one.add(Result('02.1', 'wrong', ''))\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "p.json")]) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    assert Record(tmp_path / "p.json").attempts("02.1") == 100


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2, "exercises": {}}', '{"format": 1, "exercises": {"02.1": {"attempts": "3"}}}'])
def test_a_broken_file_is_set_aside_and_said(tmp_path, content):
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.warns(UserWarning, match="kept as p.json.broken-1"):
        Record(path).add(WRONG)
    assert (tmp_path / "p.json.broken-1").read_text() == content
    assert Record(path).attempts("02.1") == 1


def test_where_nothing_can_be_written_it_goes_on_in_memory_and_says_so_once(tmp_path):
    (tmp_path / "file").write_text("")
    one = Record(tmp_path / "file" / "p.json")
    with pytest.warns(UserWarning, match="progress is not kept") as said:
        one.add(WRONG)
        one.add(WRONG)
    assert len(said) == 1
    assert one.attempts("02.1") == 2


def test_a_lock_that_was_left_is_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "STALE_SECONDS", -1.0)
    (tmp_path / "p.json.lock").write_text("")
    Record(tmp_path / "p.json").add(WRONG)
    assert [one.name for one in tmp_path.iterdir()] == ["p.json"]


def test_forget_one_or_all(tmp_path):
    one = Record(tmp_path / "p.json")
    one.add(RIGHT)
    one.add(Result("02.2", "right", ""))
    one.forget("02.1")
    assert (one.state("02.1"), one.state("02.2")) == ("open", "done")
    one.forget()
    assert Record(tmp_path / "p.json").state("02.2") == "open"


def test_where_the_file_is(monkeypatch, tmp_path):
    monkeypatch.setenv("DIFFUSION_COURSE_PROGRESS", "off")
    assert default_path() is None
    monkeypatch.setenv("DIFFUSION_COURSE_PROGRESS", str(tmp_path / "mine.json"))
    assert default_path() == tmp_path / "mine.json"
    monkeypatch.delenv("DIFFUSION_COURSE_PROGRESS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert default_path() == tmp_path / "diffusion_course" / "progress.json"


def test_the_picture_says_in_words_what_it_shows():
    one = Record()
    one.add(RIGHT)
    one.add(Result("03.1", "wrong", ""))
    figure, alt = pictures.picture(pictures.rows(one))
    total = len(all_exercises())
    assert f"1 done, 1 tried, {total - 2} open" in alt
    assert "lesson 02: 1 of 6 done" in alt
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "1 \u2713" in texts
    assert "1 ~" in texts
    assert figure.axes[0].get_title(loc="left") == f"1 of {total} exercises done"


def test_threads_that_share_a_record_lose_no_event_also_while_others_read(tmp_path):
    one, start, seen = Record(tmp_path / "p.json"), threading.Barrier(5), []

    def write():
        start.wait()
        for _ in range(40):
            one.add(WRONG)

    def read():
        start.wait()
        while (found := one.attempts("02.1")) < 160:
            seen.append(found)

    work = [threading.Thread(target=each, daemon=True) for each in (write, write, write, write, read)]
    for each in work:
        each.start()
    for each in work:
        each.join(60)
    assert one.attempts("02.1") == Record(tmp_path / "p.json").attempts("02.1") == 160
    assert seen == sorted(seen)
    assert [each.name for each in tmp_path.iterdir()] == ["p.json"]


def nobody_is_there(lock):
    if found := lock.acquire(blocking=False):
        lock.release()
    return found


def test_threads_are_shown_each_hint_once(tmp_path):
    with ThreadPoolExecutor(4) as pool:

        class Watched(Record):
            def hints(self, exercise_id):  # asked for in the midst of next_hint: nobody else may be there
                free.append(pool.submit(nobody_is_there, self._threads).result())
                return super().hints(exercise_id)

        free, one = [], Watched(tmp_path / "p.json")
        assert [one.next_hint("02.1", 20), free] == [0, [False]]
        two = Record(tmp_path / "q.json")
        assert sorted(pool.map(lambda _: two.next_hint("02.1", 20), range(20))) == list(range(20))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir] if os.name == "posix" else [os.mkdir], ids=lambda make: make.__name__)
def test_what_is_no_file_is_neither_opened_nor_renamed(tmp_path, make):
    make(tmp_path / "p.json")
    kind = stat.S_IFMT(os.lstat(tmp_path / "p.json").st_mode)
    with pytest.warns(UserWarning, match="progress is not kept"):
        one = Record(tmp_path / "p.json")
        one.add(WRONG)
    assert one.attempts("02.1") == 1
    assert [(each.name, stat.S_IFMT(each.lstat().st_mode)) for each in tmp_path.iterdir()] == [("p.json", kind)]


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_a_link_to_the_file_stays_one_also_where_the_file_is_broken(tmp_path):
    (tmp_path / "far").mkdir()
    link, file = tmp_path / "p.json", tmp_path / "far" / "real.json"
    link.symlink_to(file)
    Record(link).add(WRONG)
    assert link.is_symlink() and Record(file).attempts("02.1") == 1
    file.write_text("{")
    with pytest.warns(UserWarning, match="kept as real.json.broken-1"):
        Record(link).add(WRONG)
    assert link.is_symlink() and Record(file).attempts("02.1") == 1
    assert sorted(each.name for each in file.parent.iterdir()) == ["real.json", "real.json.broken-1"]


@pytest.mark.parametrize("content", ["{}", '{"format": 1, "exercises": {}}'])
def test_a_file_that_is_read_only_stays_as_it_is(tmp_path, content):
    path = tmp_path / "p.json"
    path.write_text(content)
    path.chmod(0o444)
    with pytest.warns(UserWarning, match="progress is not kept in .*read-only"):
        one = Record(path)
        one.add(WRONG)
    assert one.attempts("02.1") == 1 and path.read_text() == content and [each.name for each in tmp_path.iterdir()] == ["p.json"]


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_a_new_file_has_the_umasks_mode_and_an_old_one_its_own(tmp_path):
    before = os.umask(0o027)
    try:
        one = Record(tmp_path / "p.json")
        one.add(WRONG)
        assert stat.S_IMODE((tmp_path / "p.json").stat().st_mode) == 0o640
        (tmp_path / "p.json").chmod(0o600)
        one.add(WRONG)
        assert stat.S_IMODE((tmp_path / "p.json").stat().st_mode) == 0o600
    finally:
        os.umask(before)
