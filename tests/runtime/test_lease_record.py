"""The record of leases beside real containers: what is logged of them, and what they leave when it is lost."""

from __future__ import annotations

import json
import re

from tests.runtime.fixtures import oci_gpu

ONE = {"io.oci-gpu-hook.count": "1", "io.oci-gpu-hook.exclusive": "true"}
TOO_MANY = {"io.oci-gpu-hook.count": "9"}


def logging(simulated, directory):
    config = directory / "logging.toml"
    config.write_text(f'{simulated.config.read_text()}\n[log]\nfile = "{directory}/log"\n')
    return config


def events(directory, event) -> list[dict]:
    lines = [json.loads(line) for line in (directory / "log").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def test_a_refusal_is_one_line_of_the_log(runtime, make_bundle, simulated, directory):
    result = runtime.run(make_bundle("list=/", annotations=TOO_MANY, config=logging(simulated, directory)))
    (line,) = events(directory, "refused")
    assert "9 GPUs asked for" in result.complaint()
    assert line["reason"] in result.complaint()
    assert line["count"] == 9
    assert not events(directory, "failed")


def test_a_host_without_a_driver_refuses_in_one_line_too(runtime, make_bundle, simulated, directory):
    broken = simulated.copy(directory / "host")
    (broken.proc / "version").unlink()
    result = runtime.run(make_bundle("list=/", gpus="0", config=logging(broken, directory)))
    (line,) = events(directory, "refused")
    assert line["reason"] in result.complaint()


def test_a_record_that_is_lost_comes_back_as_it_was(runtime, make_bundle, simulated):
    """The journals of the living know whose each GPU is, whether alone, since when: of them it is made anew."""
    record = simulated.state_dir / "leases.json"
    with runtime.started(make_bundle(args=("/bin/sleep", "60"), annotations=ONE)) as container:
        (before,) = json.loads(record.read_text())["leases"]
        record.unlink()
        shown = json.loads(oci_gpu("--config", simulated.config, "leases", "--json"))
        (after,) = [lease for lease in shown if lease["container"] == container.id]
        assert after["exclusive"] is True
        assert after["gpus"] == [device["gpu"] for device in before["devices"]]
        assert after["pid"] == before["pid"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", after["since"])
        assert before["since"] <= after["since"] <= before["since"][:-1] + "~"
        journal = json.loads(next((simulated.state_dir / "containers").glob(f"{container.id}~*.json")).read_text())
        assert journal["bootId"] == before["bootId"]
    assert json.loads(oci_gpu("--config", simulated.config, "leases", "--json")) == []


def test_a_count_through_the_runtime_is_refused_in_one_line(front, plain_bundle, runtime, simulated, directory):
    config = runtime.host.path("/etc/oci-gpu-hook/config.toml")
    config.write_text(f'{config.read_text()}\n[log]\nfile = "{directory}/log"\n')
    result = front.run(plain_bundle("list=/", annotations=TOO_MANY))
    assert result.status != 0
    (line,) = events(directory, "refused")
    assert line["count"] == 9
    assert not events(directory, "failed")
