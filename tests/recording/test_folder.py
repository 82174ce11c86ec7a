"""The folder of records that several processes write to."""

import multiprocessing
import os
import stat

import pytest

from acredssp.recording import RecordFolder, Recording

RECORD = Recording(label="one of many")
SIZE = len(RECORD.to_json())


def names(folder):
    return sorted(each.name for each in folder.iterdir())


def test_each_record_has_a_file_that_its_owner_alone_can_read(tmp_path):
    folder = RecordFolder(tmp_path)
    before = os.umask(0)
    try:
        written = [folder.add(RECORD) for _ in range(2)]
    finally:
        os.umask(before)
    assert written == [tmp_path / "0001.json", tmp_path / "0002.json"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
    assert written[1].read_text() == RECORD.to_json()


def test_what_is_there_is_never_written_over(tmp_path):
    (tmp_path / "0041.json").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "readme.txt").write_text("others'")
    assert RecordFolder(tmp_path).add(RECORD) == tmp_path / "0042.json"
    assert names(tmp_path) == ["0041.json", "0042.json", "readme.txt"]


@pytest.mark.parametrize("bounds", [{"most_files": 2}, {"most_bytes": 2 * SIZE}], ids=["files", "bytes"])
def test_a_full_folder_takes_nothing_until_a_file_is_moved_away(tmp_path, bounds):
    folder = RecordFolder(tmp_path, **bounds)
    assert [bool(folder.add(RECORD)) for _ in range(3)] == [True, True, False]
    (tmp_path / "0001.json").unlink()
    assert folder.add(RECORD) == tmp_path / "0003.json"
    assert names(tmp_path) == ["0002.json", "0003.json"]


def test_a_record_larger_than_the_folder_is_not_taken(tmp_path):
    assert RecordFolder(tmp_path, most_bytes=SIZE - 1).add(RECORD) is None
    assert names(tmp_path) == []


def fill(path, start):
    folder = RecordFolder(path, most_files=25)
    start.wait()
    for _ in range(10):
        folder.add(RECORD)


@pytest.mark.thorough
def test_processes_share_the_bounds_and_the_numbers(tmp_path):
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(4)
    processes = [context.Process(target=fill, args=(tmp_path, start)) for _ in range(4)]
    for each in processes:
        each.start()
    for each in processes:
        each.join()
    assert [each.exitcode for each in processes] == [0] * 4
    assert names(tmp_path) == [f"{number:04}.json" for number in range(1, 26)]
    assert {each.read_text() for each in tmp_path.iterdir()} == {RECORD.to_json()}


def test_a_folder_that_takes_no_files_is_noticed(tmp_path):
    RecordFolder(tmp_path).check()
    assert names(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        RecordFolder(tmp_path / "missing").check()
