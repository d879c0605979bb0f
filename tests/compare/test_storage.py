"""Runs below a URL: whole files, in an order that lets another worker go on at any moment."""

from __future__ import annotations

import fsspec
import pytest

from holdfast.compare import storage
from holdfast.compare.storage import Storage
from holdfast.errors import ConfigError, RunError
from holdfast.training.events import CheckpointSaved, EpochDone

KEY = "0123456789abcdef"
SAVED = CheckpointSaved("run", 3)

RUN = {
    "config.yaml": b"seed: 0",
    "history.csv": b"epoch",
    "checkpoint/epoch-00001-raw.safetensors": b"weights",
    "checkpoint/state.pt": b"state",
    "model.safetensors": b"model",
    "result.json": b"{}",
}


@pytest.fixture
def store():
    fsspec.filesystem("memory").store.clear()
    yield Storage("memory://runs/cars")
    fsspec.filesystem("memory").store.clear()


@pytest.fixture(params=["memory", "file"])
def any_store(request, tmp_path, store):
    return store if request.param == "memory" else Storage(f"file://{tmp_path}/store")


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def read(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def actions(store, monkeypatch):
    """What happens to the storage, in order."""
    done = []
    put, delete = Storage.put, Storage.delete
    monkeypatch.setattr(Storage, "put", lambda self, key, name, file: done.append(f"put {name}") or put(self, key, name, file))
    monkeypatch.setattr(Storage, "delete", lambda self, key, name: done.append(f"delete {name}") or delete(self, key, name))
    return done


def test_what_is_mirrored_is_fetched(any_store, tmp_path):
    write(tmp_path / "run", RUN)
    any_store.mirror(KEY, tmp_path / "run").push()
    assert any_store.fetch(KEY, tmp_path / "there") == set(RUN)
    assert read(tmp_path / "there") == RUN


def test_a_run_comes_home_without_its_checkpoint(any_store, tmp_path):
    write(tmp_path / "run", RUN)
    any_store.mirror(KEY, tmp_path / "run").push()
    any_store.fetch(KEY, tmp_path / "home", checkpoint=False)
    assert read(tmp_path / "home") == {name: content for name, content in RUN.items() if not name.startswith("checkpoint/")}


def test_nothing_is_fetched_of_a_run_that_nobody_began(any_store, tmp_path):
    assert any_store.fetch(KEY, tmp_path / "there") == set()
    assert not any_store.has_finished(KEY)


def test_a_run_is_finished_once_its_result_is_there(any_store, tmp_path):
    write(tmp_path / "run", {name: content for name, content in RUN.items() if name != "result.json"})
    mirror = any_store.mirror(KEY, tmp_path / "run")
    mirror.push()
    assert not any_store.has_finished(KEY)
    write(tmp_path / "run", RUN)
    mirror.push()
    assert any_store.has_finished(KEY)


def test_a_checkpoint_goes_after_what_it_names_and_the_result_last(store, actions, tmp_path):
    write(tmp_path / "run", RUN)
    store.mirror(KEY, tmp_path / "run").push()
    assert len(actions) == 6
    assert actions[-2:] == ["put checkpoint/state.pt", "put result.json"]


def test_only_what_changed_is_copied_and_what_went_is_deleted_last(store, actions, tmp_path):
    folder = tmp_path / "run"
    write(folder, {name: content for name, content in RUN.items() if name != "result.json"})
    mirror = store.mirror(KEY, folder)
    mirror.push()
    actions.clear()
    (folder / "checkpoint/epoch-00001-raw.safetensors").unlink()
    write(folder, {"checkpoint/epoch-00002-raw.safetensors": b"better", "checkpoint/state.pt": b"later state"})
    mirror.push()
    assert actions == [
        "put checkpoint/epoch-00002-raw.safetensors",
        "put checkpoint/state.pt",
        "delete checkpoint/epoch-00001-raw.safetensors",
    ]


def test_a_worker_that_takes_over_copies_only_what_it_changes(store, actions, tmp_path):
    write(tmp_path / "first", RUN)
    store.mirror(KEY, tmp_path / "first").push()
    actions.clear()
    second = store.mirror(KEY, tmp_path / "second")
    write(tmp_path / "second", {"history.csv": b"epoch,1"})
    (tmp_path / "second/checkpoint/epoch-00001-raw.safetensors").unlink()
    second.push()
    assert actions == ["put history.csv", "delete checkpoint/epoch-00001-raw.safetensors"]


def test_files_that_are_still_being_written_stay_at_home(store, tmp_path):
    write(tmp_path / "run", {**RUN, ".tmp~host~1~history.csv": b"ep"})
    store.mirror(KEY, tmp_path / "run").push()
    assert store.fetch(KEY, tmp_path / "there") == set(RUN)


def test_a_file_that_was_cut_off_on_its_way_is_no_file_of_the_run(tmp_path, monkeypatch):
    store = Storage(f"file://{tmp_path}/store")
    write(tmp_path / "run", RUN)
    mirror = store.mirror(KEY, tmp_path / "run")
    mirror.push()

    def cut_off(self, source, target, **options):
        with open(target, "wb") as stream:
            stream.write(b"hal")
        raise OSError("the connection is gone")

    monkeypatch.setattr(fsspec.get_filesystem_class("file"), "put_file", cut_off)
    write(tmp_path / "run", {"checkpoint/state.pt": b"half of a state"})
    with pytest.raises(RunError, match=r"--storage file://.*: it cannot be written to \(OSError: the connection is gone\)"):
        mirror.push()
    assert store.fetch(KEY, tmp_path / "there") == set(RUN)
    assert read(tmp_path / "there") == RUN


def test_a_mirror_copies_after_checkpoints_alone_and_takes_no_more_than_its_share_of_the_time(store, actions, tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(storage.time, "monotonic", lambda: now[0])
    put = Storage.put

    def slow_put(self, key, name, file):
        now[0] += 2.0
        put(self, key, name, file)

    monkeypatch.setattr(Storage, "put", slow_put)
    folder = tmp_path / "run"
    write(folder, {"config.yaml": b"seed: 0"})
    mirror = store.mirror(KEY, folder)
    mirror.listen(EpochDone(1, 2))
    assert actions == []
    mirror.listen(SAVED)
    assert actions == ["put config.yaml"]
    for seconds, copies in ((17.9, 1), (0.2, 2)):
        now[0] += seconds
        write(folder, {"config.yaml": b"seed: 1234"})
        mirror.listen(SAVED)
        assert len(actions) == copies


def test_training_goes_on_where_a_copy_fails(store, tmp_path, monkeypatch, caplog):
    def refuse(self, key, name, file):
        raise OSError("no route to host")

    monkeypatch.setattr(Storage, "put", refuse)
    write(tmp_path / "run", RUN)
    mirror = store.mirror(KEY, tmp_path / "run")
    mirror.listen(SAVED)
    assert "no route to host" in caplog.text
    with pytest.raises(RunError, match="no route to host"):
        mirror.push()


def test_a_mark_tells_one_place_from_another(any_store, tmp_path):
    any_store.place_mark(".here~1")
    assert any_store.has_mark(".here~1")
    assert Storage(any_store.url).has_mark(".here~1")
    assert not Storage(f"file://{tmp_path}/elsewhere").has_mark(".here~1")
    any_store.remove_mark(".here~1")
    assert not any_store.has_mark(".here~1")


def test_a_place_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"--storage file://.*/file: it cannot be written to"):
        Storage(f"file://{tmp_path}/file").place_mark(".here~1")


@pytest.mark.parametrize("url", ["sftp://me:hunter2@host/runs", "https://store/runs?sig=hunter2"])
def test_secrets_in_a_url_are_refused_and_not_repeated(url):
    with pytest.raises(ConfigError, match="holds a password or key") as raised:
        Storage(url)
    assert "hunter2" not in str(raised.value)


def test_an_unknown_kind_of_url_is_refused():
    with pytest.raises(ConfigError, match="--storage nowhere://runs"):
        Storage("nowhere://runs")


def test_a_missing_package_is_named(monkeypatch):
    def missing(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(ConfigError, match=r"--storage s3://bucket/runs: .*Install s3fs"):
        Storage("s3://bucket/runs")


def test_stores_that_show_only_whole_objects_are_written_to_directly(tmp_path, monkeypatch):
    """Renaming would copy there."""
    written = []

    class S3:
        protocol = ("s3", "s3a")

        def put_file(self, source, target):
            written.append(target)

    monkeypatch.setattr(storage, "locate", lambda url: (S3(), "bucket/runs"))
    Storage("s3://bucket/runs").put(KEY, "history.csv", tmp_path / "history.csv")
    assert written == [f"bucket/runs/{KEY}/history.csv"]
