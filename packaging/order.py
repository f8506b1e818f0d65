"""Reads `cargo metadata`, and prints the crates that are published, each after those it depends on."""

import json
import sys

packages = {p["name"]: p for p in json.load(sys.stdin)["packages"] if p["publish"] is None}
order = []


def visit(name):
    if name in order:
        return
    # A development dependency by path alone is left out of the package.
    for dependency in packages[name]["dependencies"]:
        if dependency["name"] in packages and dependency["kind"] != "dev":
            visit(dependency["name"])
    order.append(name)


for name in sorted(packages):
    visit(name)
print("\n".join(order))
