"""Each rule for specification files with a file that breaks it: the answer names the line, the rule and a remedy."""

from __future__ import annotations

import ast
import inspect
import json
import sys

import pytest
import yaml

from oci_gpu_hook.devices.cdi.spec_files import rules
from tests.unit.devices.cdi.test_reading import MINIMAL, changed, parse

BROKEN = {
    "no version": (changed(cdiVersion=None), "cdiVersion is missing", 'add cdiVersion: "0.5.0"'),
    "no kind": (changed(kind=None), "kind is missing", "add kind: vendor.com/gpu"),
    "no devices": (changed(devices=None), "devices is missing", "add devices: [{name: NAME, containerEdits: {…}}]"),
    "empty devices": (changed(devices=[]), "there is none", "list one device at least"),
    "unknown version": (
        changed(cdiVersion="2.0.0"),
        "'2.0.0' is unknown here",
        "write one of 0.3.0, 0.4.0, 0.5.0, 0.6.0, 0.7.0, 0.8.0, 1.0.0, 1.1.0",
    ),
    "version that engines no longer read": (
        changed(cdiVersion="0.2.0", devices=[]),
        "0.2.0 is older than all that engines read",
        "write 0.3.0 or later",
    ),
    "version is a number": (
        changed(cdiVersion=1.1),
        "'1.1' is unknown here",
        "write one of 0.3.0, 0.4.0, 0.5.0, 0.6.0, 0.7.0, 0.8.0, 1.0.0, 1.1.0",
    ),
    "kind without class": (changed(kind="vendor"), "'vendor' is not VENDOR/CLASS", "write it as in vendor.com/gpu"),
    "kind with an empty vendor": (
        changed(kind="/gpu"),
        "'' is not a vendor",
        "use letters, digits and _-. with a letter in front and a let",
    ),
    "vendor begins with a digit": (
        changed(kind="1v.com/d"),
        "'1v.com' is not a vendor",
        "use letters, digits and _-. with a letter in front and a let",
    ),
    "vendor ends with a dot": (
        changed(kind="v./d"),
        "'v.' is not a vendor",
        "use letters, digits and _-. with a letter in front and a let",
    ),
    "class with a space": (
        changed(kind="v.com/a b"),
        "'a b' is not a class",
        "use letters, digits and _-. with a letter in front and a let",
    ),
    "vendor of a long name": (changed(kind=f"{'v' * 254}/d"), "the vendor has 254 characters", "use 253 at most"),
    "class of a long name": (changed(kind=f"v.com/{'d' * 64}"), "the class has 64 characters", "use 63 at most"),
    "class begins with a digit": (
        changed(kind="v.com/1"),
        "'1' is not a class",
        "use letters, digits and _-. with a letter in front and a let",
    ),
    "device name with a slash": (
        changed(device={"name": "a/b"}),
        "'a/b' is not a device name",
        "use letters, digits and _-.: with a letter or digit at both ends",
    ),
    "device name ends with a colon": (
        changed(device={"name": "a:"}),
        "'a:' is not a device name",
        "use letters, digits and _-.: with a letter or digit at both ends",
    ),
    "device name is empty": (
        changed(device={"name": ""}),
        "'' is not a device name",
        "use letters, digits and _-.: with a letter or digit at both ends",
    ),
    "no device name": (changed(devices=[{"containerEdits": {"env": ["A=1"]}}]), "name is missing", "add name: NAME"),
    "no edits": (
        changed(devices=[{"name": "a"}]),
        "containerEdits is missing",
        "add containerEdits: {deviceNodes: [{path: /dev/NODE}]}",
    ),
    "edits without an edit": (
        changed(devices=[{"name": "a", "containerEdits": {}}]),
        "has no edit",
        "add a device node, a mount, a variable or another edit",
    ),
    "two of one name": (
        changed(devices=MINIMAL["devices"] * 2),
        "'a' is the name of devices[0] too",
        "give each device a name of its own",
    ),
    "unknown field": (
        changed(containerEdit={}),
        "unknown field 'containerEdit'",
        "write containerEdits if that is meant, or remove it",
    ),
    "field twice, in two cases": (changed(Kind="v.com/d"), "'Kind' is kind a second time", "remove one of them"),
    "unknown field of a node": (
        changed(edits={"deviceNodes": [{"path": "/d", "xyz": 1}]}),
        "unknown field 'xyz'",
        "remove it; known are path, hostPath, type, major, minor, fil",
    ),
    "variable without a name": (
        changed(edits={"env": ["=1"]}),
        "'=1' is not NAME=VALUE",
        "write a name, = and a value",
    ),
    "variable without a value": (changed(edits={"env": ["A"]}), "'A' is not NAME=VALUE", "write a name, = and a value"),
    "node without a path": (changed(edits={"deviceNodes": [{"type": "c"}]}), "path is missing", "add path: /dev/NODE"),
    "node with an empty path": (changed(edits={"deviceNodes": [{"path": ""}]}), "is empty", "write a path"),
    "node of an unknown type": (
        changed(edits={"deviceNodes": [{"path": "/d", "type": "x"}]}),
        "'x' is not a type of node",
        "write c or u for a character device, b for a block device, p",
    ),
    "number of no device": (
        changed(edits={"deviceNodes": [{"path": "/d", "type": "c", "major": 1, "minor": 1 << 20}]}),
        "no device has the number 1048576",
        "write a number between 0 and 1048575",
    ),
    "name that no file has": (
        changed(edits={"mounts": [{"hostPath": "/a", "containerPath": "/b/" + "c" * 256}]}),
        "no path of Linux is so long",
        "use 255 bytes at most for each name, and 4095 for all of it",
    ),
    "path that no file has": (
        changed(edits={"deviceNodes": [{"path": "/d" * 2048}]}),
        "no path of Linux is so long",
        "use 255 bytes at most for each name, and 4095 for all of it",
    ),
    "permissions": (
        changed(edits={"deviceNodes": [{"path": "/d", "permissions": "rx"}]}),
        "'rx' is not a set of permissions",
        "write some of the letters rwm, or none",
    ),
    "uid below zero": (
        changed(edits={"deviceNodes": [{"path": "/d", "uid": -1}]}),
        "-1 is out of range",
        "write a number between 0 and 4294967295",
    ),
    "gid too large": (
        changed(edits={"additionalGids": [2**32]}),
        "4294967296 is out of range",
        "write a number between 0 and 4294967295",
    ),
    "major is text": (
        changed(edits={"deviceNodes": [{"path": "/d", "major": "1"}]}),
        "a whole number is expected, found '1'",
        "write its digits, without quotation marks",
    ),
    "major is a fraction": (
        changed(edits={"deviceNodes": [{"path": "/d", "major": 1.5}]}),
        "a whole number is expected, found '1.5'",
        "write its digits, without quotation marks",
    ),
    "mount without a host path": (
        changed(edits={"mounts": [{"containerPath": "/a"}]}),
        "hostPath is missing",
        "add hostPath: /PATH",
    ),
    "mount with an empty path": (
        changed(edits={"mounts": [{"hostPath": "/a", "containerPath": ""}]}),
        "is empty",
        "write a path",
    ),
    "options are text": (
        changed(edits={"mounts": [{"hostPath": "/a", "containerPath": "/a", "options": "ro"}]}),
        "a list is expected, found 'ro'",
        "write [ITEM, ITEM]",
    ),
    "unknown hook": (
        changed(edits={"hooks": [{"hookName": "start", "path": "/h"}]}),
        "'start' is not the name of a hook",
        "write one of prestart, createRuntime, createContainer, start",
    ),
    "hook of a relative path": (
        changed(edits={"hooks": [{"hookName": "prestart", "path": "bin/h"}]}),
        "'bin/h' is not an absolute path",
        "write it from / on",
    ),
    "hook without time": (
        changed(edits={"hooks": [{"hookName": "prestart", "path": "/h", "timeout": 0}]}),
        "0 is out of range",
        "write a number between 1 and 2147483647",
    ),
    "hook without a path": (
        changed(edits={"hooks": [{"hookName": "prestart"}]}),
        "path is missing",
        "add path: /usr/bin/HOOK",
    ),
    "variable of a hook": (
        changed(edits={"hooks": [{"hookName": "prestart", "path": "/h", "env": ["A"]}]}),
        "'A' is not NAME=VALUE",
        "write a name, = and a value",
    ),
    "class of service": (
        changed(cdiVersion="1.1.0", edits={"intelRdt": {"closID": "a/b"}}),
        "'a/b' is not a file name",
        "use 4095 bytes at most, without / and line breaks, and neith",
    ),
    "class of service, long": (
        changed(cdiVersion="1.1.0", edits={"intelRdt": {"closID": "a" * 4096}}),
        "is not a file name",
        "use 4095 bytes at most, without / and line breaks, and neith",
    ),
    "monitoring": (
        changed(edits={"intelRdt": {"enableMonitoring": "maybe"}}),
        "true or false is expected, found 'maybe'",
        "write one of the two, without quotation marks",
    ),
    "interface without a name": (
        changed(cdiVersion="1.1.0", edits={"netDevices": [{"hostInterfaceName": "e", "name": ""}]}),
        "is empty",
        "write the name of an interface",
    ),
    "interface twice": (
        changed(cdiVersion="1.1.0", edits={"netDevices": [{"hostInterfaceName": "e", "name": n} for n in "ab"]}),
        "'e' is that of netDevices[0] too",
        "name each interface once",
    ),
    "name of an interface twice": (
        changed(cdiVersion="1.1.0", edits={"netDevices": [{"hostInterfaceName": n, "name": "e"} for n in "ab"]}),
        "'e' is that of netDevices[0] too",
        "name each interface once",
    ),
    "annotation with a bad name": (
        changed(annotations={"a b": "c"}),
        "'a b' is not the name of an annotation",
        "use 63 letters, digits and _-. at most, with a letter or dig",
    ),
    "annotation with a bad prefix": (
        changed(annotations={"-a/b": "c"}),
        "'-a' before the slash is not a DNS name",
        "write letters, digits and -, with dots between labels, as in",
    ),
    "annotation of a long name": (
        changed(annotations={"a" * 64: "c"}),
        "aaaaaa' is not the name of an annotation",
        "use 63 letters, digits and _-. at most, with a letter or dig",
    ),
    "annotations too large": (
        changed(annotations={"a": "c" * 262144}),
        "have 262145 bytes",
        "keep names and values within 262144 together",
    ),
    "annotation is a number in a list": (
        changed(annotations={"a": [1]}),
        "text is expected, found a list",
        "write one value, in quotation marks",
    ),
    "device annotation": (
        changed(device={"annotations": {"a b": "c"}}),
        "'a b' is not the name of an annotation",
        "use 63 letters, digits and _-. at most, with a letter or dig",
    ),
    "annotations of an old version": (
        changed(cdiVersion="0.5.0", annotations={"a": "b"}),
        "0.5.0 does not know annotations",
        "write 0.6.0 or later",
    ),
    "digit name of an old version": (
        changed(cdiVersion="0.4.0", device={"name": "0"}),
        "0.4.0 does not know a device name that begins with a digit",
        "write 0.5.0 or later",
    ),
    "host path of an old version": (
        changed(cdiVersion="0.4.0", edits={"deviceNodes": [{"path": "/d", "hostPath": "/e"}]}),
        "0.4.0 does not know hostPath of a device node",
        "write 0.5.0 or later",
    ),
    "mount type of an old version": (
        changed(cdiVersion="0.3.0", edits={"mounts": [{"hostPath": "/a", "containerPath": "/a", "type": "bind"}]}),
        "0.3.0 does not know the type of a mount",
        "write 0.4.0 or later",
    ),
    "groups of an old version": (
        changed(edits={"additionalGids": [1]}),
        "0.6.0 does not know additionalGids",
        "write 0.7.0 or later",
    ),
    "rdt of an old version": (
        changed(edits={"intelRdt": {"closID": "a"}}),
        "0.6.0 does not know intelRdt",
        "write 0.7.0 or later",
    ),
    "interfaces of an old version": (
        changed(cdiVersion="1.0.0", edits={"netDevices": [{"hostInterfaceName": "e", "name": "n"}]}),
        "1.0.0 does not know netDevices",
        "write 1.1.0 or later",
    ),
    "class with a dot of an old version": (
        changed(cdiVersion="0.5.0", kind="v.com/a.b"),
        "0.5.0 does not know a dot in the class",
        "write 0.6.0 or later",
    ),
}

ZERO = chr(0)
BROKEN |= {
    "variable with a zero byte": (changed(edits={"env": [f"A={ZERO}"]}), "has a zero byte", "remove it"),
    "path with a zero byte": (changed(edits={"deviceNodes": [{"path": f"/{ZERO}"}]}), "has a zero byte", "remove it"),
    "host path of a node with a zero byte": (
        changed(edits={"deviceNodes": [{"path": "/a", "hostPath": f"/{ZERO}"}]}),
        "has a zero byte",
        "remove it",
    ),
    "host path of a mount with a zero byte": (
        changed(edits={"mounts": [{"hostPath": f"/{ZERO}", "containerPath": "/a"}]}),
        "has a zero byte",
        "remove it",
    ),
    "mount with an empty host path": (
        changed(edits={"mounts": [{"hostPath": "", "containerPath": "/a"}]}),
        "is empty",
        "write a path of the host, or tmpfs",
    ),
    "hook with an empty path": (
        changed(edits={"hooks": [{"hookName": "prestart", "path": ""}]}),
        "is empty",
        "write a path",
    ),
    "interface of no host name": (
        changed(cdiVersion="1.1.0", edits={"netDevices": [{"hostInterfaceName": "", "name": "a"}]}),
        "is empty",
        "write the name of an interface",
    ),
    "interface without a field": (
        changed(cdiVersion="1.1.0", edits={"netDevices": [{"name": "a"}]}),
        "hostInterfaceName is missing",
        "add hostInterfaceName: eth1",
    ),
    "monitoring of an old version": (
        changed(cdiVersion="1.0.0", edits={"intelRdt": {"closID": "a", "enableMonitoring": True}}),
        "1.0.0 does not know schemata or enableMonitoring",
        "write 1.1.0 or later",
    ),
    "annotations of a device too large": (
        changed(device={"annotations": {"a": "c" * 262144}}),
        "have 262145 bytes",
        "keep names and values within 262144 together",
    ),
    "edits for all devices": (
        changed(containerEdits={"env": ["A"]}),
        "'A' is not NAME=VALUE",
        "write a name, = and a value",
    ),
    "edits are a list": (changed(containerEdits=[1]), "a mapping is expected, found a list", "write {NAME: VALUE}"),
    "a name that is a list": (changed(device={"name": ["a"]}), "text is expected, found a list", "write one value"),
    "minor of many digits": (
        changed(edits={"deviceNodes": [{"path": "/d", "major": 1, "minor": 10**80}]}),
        "a number of 81 digits is too large",
        "write a number between",
    ),
    "mode too large": (
        changed(edits={"deviceNodes": [{"path": "/d", "fileMode": 2**32}]}),
        "4294967296 is out of range",
        "write a number between 0 and",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_a_broken_rule_is_named_with_its_line_and_a_remedy(name, form):
    document, what, remedy = BROKEN[name]
    dumped = json.dumps(document, indent=1) if form == "json" else yaml.safe_dump(document, sort_keys=False)
    found = parse(dumped, is_json=form == "json")
    assert found.specification is None
    assert any(what in each.what and each.remedy.startswith(remedy) for each in found.problems), found.problems
    assert all(0 < problem.line <= dumped.count("\n") + 1 for problem in found.problems)
    assert all(str(problem).endswith(f"{problem.what}; {problem.remedy}") for problem in found.problems)


def test_no_rule_of_the_code_is_without_a_file():
    """Each place at which a broken rule is found is come to by one of the files."""
    places = {
        node.lineno
        for node in ast.walk(ast.parse(inspect.getsource(rules)))
        if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple)
    }
    seen = set()

    def trace(frame, _event, _value):
        if frame.f_code.co_filename != rules.__file__:
            return None
        seen.add(frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for document, *_ in BROKEN.values():
            parse(json.dumps(document), is_json=True)
    finally:
        sys.settrace(before)
    assert len(places) > 20
    assert places - seen == set()
