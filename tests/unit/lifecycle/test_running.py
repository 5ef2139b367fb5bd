"""Which container is meant by what a person writes."""

from __future__ import annotations

import pytest

from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.lifecycle import running


@pytest.mark.parametrize("name", ["9" * 5000, "7" * 200, "\u0663", "\u00b2", "-1", "0", "/", "a\0b", "../1"])
def test_odd_names_are_no_container(tmp_path, name):
    with pytest.raises(InvalidInput, match="is not a running container"):
        running.named(name, Config(state_dir=str(tmp_path)))
