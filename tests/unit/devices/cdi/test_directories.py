"""The directories of specification files: which file a device comes from, and what is not believed."""

from __future__ import annotations

import os

import pytest

from oci_gpu_hook.devices.cdi.spec_files import directories

SPEC = """\
cdiVersion: "0.6.0"
kind: {kind}
devices:
  - name: {name}
    containerEdits:
      env: [{env}]
"""


@pytest.fixture
def places(tmp_path):
    """Two directories that only this user writes; those above them are pytest's."""
    found = [tmp_path / name for name in ("etc", "run")]
    for path in found:
        path.mkdir(mode=0o755)
    return found


def put(directory, name, *, kind="v.com/d", device="a", env="A=1"):
    path = directory / name
    path.write_text(SPEC.format(kind=kind, name=device, env=env))
    path.chmod(0o644)
    return path


def env(registry, name="v.com/d=a"):
    return registry.devices[name].device.edits.env


def test_a_later_directory_goes_before_an_earlier_one(places):
    put(places[0], "v.yaml", env="FROM=etc")
    assert env(directories.read(places)) == ("FROM=etc",)
    put(places[1], "v.yaml", env="FROM=run")
    assert env(directories.read(places)) == ("FROM=run",)
    assert env(directories.read(reversed(places))) == ("FROM=etc",)


def test_one_device_of_two_files_of_a_directory_is_nobodys(places):
    put(places[1], "v.yaml")
    put(places[1], "w.json.yaml", device="a")
    put(places[1], "x.yaml", device="b")
    registry = directories.read(places)
    assert set(registry.devices) == {"v.com/d=b"}
    assert registry.conflicts == {"v.com/d=a": (str(places[1] / "v.yaml"), str(places[1] / "w.json.yaml"))}


def test_a_conflict_hides_the_device_of_an_earlier_directory_and_a_later_one_ends_it(places, tmp_path):
    put(places[0], "v.yaml")
    for name in ("v.yaml", "w.yaml"):
        put(places[1], name)
    assert not directories.read(places).devices
    last = tmp_path / "last"
    last.mkdir(mode=0o755)
    put(last, "v.yaml", env="FROM=last")
    registry = directories.read([*places, last])
    assert env(registry) == ("FROM=last",)
    assert not registry.conflicts


def test_a_broken_file_fails_only_itself(places):
    put(places[0], "good.yaml", device="good")
    for name, data in (("a.yaml", b"\xff"), ("b.json", b"{"), ("c.yaml", b"[" * 99), ("d.yaml", b"")):
        (places[0] / name).write_bytes(data)
    registry = directories.read(places)
    assert set(registry.devices) == {"v.com/d=good"}
    assert [os.path.basename(file.path) for file in registry.files if file.problems] == [
        "a.yaml", "b.json", "c.yaml", "d.yaml",
    ]  # fmt: skip


def test_other_names_and_directories_are_passed_over(places):
    put(places[0], "v.yml")
    put(places[0], "v.yaml.bak")
    (places[0] / "d.yaml").mkdir()
    registry = directories.read([*places, places[0] / "absent"])
    assert (registry.files, registry.problems) == ((), ())


def test_a_directory_under_two_names_is_one(places, tmp_path):
    put(places[0], "v.yaml")
    (tmp_path / "link").symlink_to(places[0])
    registry = directories.read([places[0], tmp_path / "link"])
    assert (len(registry.files), registry.conflicts) == (1, {})


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_write_is_not_read(places, mode):
    path = put(places[0], "v.yaml")
    path.chmod(mode)
    (file,) = directories.read(places).files
    assert file.specification is None
    assert "could be written by others" in file.problems[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_a_file_of_somebody_else_is_not_read(places):
    os.chown(put(places[0], "v.yaml"), 1000, 1000)
    assert "owner 1000" in directories.read(places).files[0].problems[0]


def test_a_file_in_a_directory_that_others_write_is_not_read(places):
    put(places[0], "v.yaml")
    places[0].chmod(0o777)
    (file,) = directories.read(places).files
    assert "where others could exchange it" in file.problems[0]
    places[0].chmod(0o1777)  # sticky: nobody takes root's file away
    assert directories.read(places).devices


def test_a_link_is_followed_where_only_root_could_have_made_all_of_it(places, tmp_path):
    target = put(places[1], "target")
    (places[0] / "v.yaml").symlink_to(target)
    assert directories.read(places[:1]).devices
    places[1].chmod(0o777)
    assert not directories.read(places[:1]).devices


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
@pytest.mark.parametrize("theirs", ["directory", "sticky", "above"])
def test_a_link_that_somebody_else_could_lead_elsewhere_is_not_followed(places, tmp_path, theirs):
    """The file is root's, and so is the first link; a second one, or a directory on the way, is not."""
    target = put(places[1], "target")
    way = tmp_path / "way" / "below"
    way.mkdir(parents=True, mode=0o755)
    way.parent.chmod(0o755)
    (way / "link").symlink_to(target)
    (places[0] / "v.yaml").symlink_to(way / "link")
    assert directories.read(places[:1]).devices
    if theirs == "sticky":
        way.chmod(0o1777)
        assert directories.read(places[:1]).devices
        os.lchown(way / "link", 1000, 1000)
    else:
        os.chown(way if theirs == "directory" else way.parent, 1000, 1000)
    (file,) = directories.read(places[:1]).files
    assert "others could exchange" in file.problems[0]


@pytest.mark.parametrize("kind", ["pipe", "dangling", "device"])
def test_what_is_no_file_keeps_nobody_waiting(places, kind):
    path = places[0] / "v.yaml"
    if kind == "pipe":
        os.mkfifo(path, 0o600)
    else:
        path.symlink_to("/absent" if kind == "dangling" else "/dev/zero")
    (file,) = directories.read(places).files
    assert file.problems


def test_more_files_than_are_read_are_said(places):
    for number in range(directories.MOST_FILES + 1):
        put(places[0], f"{number:04}.yaml", device=f"d{number}")
    registry = directories.read(places)
    assert len(registry.devices) == directories.MOST_FILES
    assert "257 specification files" in registry.problems[0]
