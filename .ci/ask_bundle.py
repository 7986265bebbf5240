"""Start the server of an unpacked bundle as a host would, and compare what it serves with its manifest."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio
from mcp import Client, StdioServerParameters


def main() -> None:
    manifest, config = (json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:3])
    with tempfile.TemporaryDirectory() as data:
        settings = Path(data, "config.toml")
        settings.touch()
        outside = {name: value for name, value in os.environ.items() if not name.startswith("CRM_MCP_")}
        env = {**outside, **config["env"], "CRM_MCP_DATA_DIR": data, "CRM_MCP_CONFIG": str(settings)}
        # The first start fetches the dependencies: apart from the rest, so that a failure ends with uv's own words.
        command = [config["command"], *config["args"]]
        if subprocess.run([*command, "check"], env=env, check=False, timeout=300).returncode:
            sys.exit("the server in the bundle does not start")
        anyio.run(ask, manifest, StdioServerParameters(command=command[0], args=command[1:], env=env))


async def ask(manifest: dict[str, list[dict[str, str]]], server: StdioServerParameters) -> None:
    with anyio.fail_after(60):
        async with Client(server) as client:
            served = {
                "tools": {each.name for each in (await client.list_tools()).tools},
                "prompts": {each.name for each in (await client.list_prompts()).prompts},
            }
    for kind, names in served.items():
        told = {each["name"] for each in manifest[kind]}
        # The embedded CRM, which the bundle starts with, has not all that a vendor has.
        if unknown := names - told:
            sys.exit(f"{kind} that the bundle has and its manifest has not: {', '.join(sorted(unknown))}")
        if len(names) < 0.8 * len(told):
            sys.exit(f"of {len(told)} {kind} of the manifest only {len(names)} are served")
    sys.stdout.write(f"bundle: {len(served['tools'])} tools served from the packed files\n")


main()
