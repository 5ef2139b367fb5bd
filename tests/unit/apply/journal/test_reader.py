"""The journal read back: what cannot be read for want of descriptors is not taken for what is not there."""

from __future__ import annotations

import errno
import os

import pytest

from oci_gpu_hook.apply import cleanup
from oci_gpu_hook.apply.journal import journal, reader
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import ApplyError


@pytest.fixture
def config(tmp_path):
    (tmp_path / "containers").mkdir(mode=0o700)
    tmp_path.chmod(0o700)
    (tmp_path / "containers" / "c~4000000-7.json").write_text('{"pid": 4000000, "startTime": 7, ')
    (tmp_path / "containers" / "c~4000000-7.json").chmod(0o600)
    return Config(state_dir=str(tmp_path))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM], ids=errno.errorcode.get)
def test_an_entry_is_not_forgotten_for_want_of_descriptors(config, monkeypatch, number):
    def fail(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(reader, "read_trusted", fail)
    with pytest.raises(ApplyError, match=os.strerror(number)):
        reader.read(config, "c~4000000-7")
    assert cleanup.take_back_dead(config) == ()
    assert journal.is_kept(config, "c~4000000-7")
    monkeypatch.undo()
    assert reader.read(config, "c~4000000-7") is None  # it is damaged
    assert cleanup.take_back_dead(config) == ("c",)
