"""What an engine that knows CDI does with a specification: it puts its edits into a bundle's config.json.

By the rules of SPEC.md ("OCI Edits"), for the fields that our own specifications and those of `vendors` have.
"""

from __future__ import annotations

import os


def apply(document: dict, names: tuple[str, ...], config: dict) -> None:
    """Put the edits of the named devices of a specification into a config.json."""
    devices = {device["name"]: device["containerEdits"] for device in document["devices"]}
    for edits in (document.get("containerEdits", {}), *(devices[name] for name in names)):
        _apply(edits, config)


def _apply(edits: dict, config: dict) -> None:
    process, linux = config["process"], config["linux"]
    process["env"] += edits.get("env", [])
    process["user"].setdefault("additionalGids", []).extend(edits.get("additionalGids", []))
    for said in edits.get("deviceNodes", []):
        found = os.stat(said.get("hostPath", said["path"]))
        numbers = {"type": "c", "major": os.major(found.st_rdev), "minor": os.minor(found.st_rdev)}
        assert {name: said.get(name, numbers[name]) for name in numbers} == numbers
        node = {"fileMode": 0o666, "uid": 0, "gid": 0, "permissions": "rwm"} | numbers | said
        if any(namespace["type"] == "user" for namespace in linux["namespaces"]):
            # Where no node can be made, engines bind the host's; runc itself would take the one at the same path.
            bind = {"destination": node["path"], "source": node.get("hostPath", node["path"]), "type": "bind"}
            config["mounts"].append({**bind, "options": ["bind", "nosuid", "noexec"]})
        else:
            made = {name: node[name] for name in ("path", "type", "major", "minor", "fileMode", "uid", "gid")}
            linux.setdefault("devices", []).append(made)
        rule = {"allow": True, "type": node["type"], "major": node["major"], "minor": node["minor"]}
        linux["resources"]["devices"].append({**rule, "access": node["permissions"]})
    for mount in edits.get("mounts", []):
        entry = {"destination": mount["containerPath"], "source": mount["hostPath"], "options": mount["options"]}
        config["mounts"].append({**entry, "type": mount.get("type", "bind")})
    for hook in edits.get("hooks", []):
        entry = {name: hook[name] for name in ("path", "args", "env") if name in hook}
        config.setdefault("hooks", {}).setdefault(hook["hookName"], []).append(entry)
