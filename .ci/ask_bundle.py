"""Start the server of an unpacked bundle as its manifest says, and list its tools."""

import json
import sys
import tempfile
from pathlib import Path

import anyio
from mcp import Client, StdioServerParameters


async def main(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    config = manifest["server"]["mcp_config"]
    values = {name: str(entry.get("default", "")) for name, entry in manifest["user_config"].items()}

    def filled(text: str) -> str:
        for name, value in values.items():
            text = text.replace(f"${{user_config.{name}}}", value.lower() if value in ("True", "False") else value)
        return text.replace("${__dirname}", str(folder))

    with tempfile.TemporaryDirectory() as data:
        server = StdioServerParameters(
            command=config["command"],
            args=[filled(each) for each in config["args"]],
            env={**{name: filled(value) for name, value in config["env"].items()}, "CRM_MCP_DATA_DIR": data},
        )
        async with Client(server) as client:
            names = {each.name for each in (await client.list_tools()).tools}
            status = await client.call_tool("crm_status", {})
    wanted = {each["name"] for each in manifest["tools"]}
    if names != wanted or status.is_error:
        sys.exit(f"the bundle serves {sorted(names)}, its manifest lists {sorted(wanted)}")
    sys.stdout.write(f"bundle: {len(names)} tools served from the packed files\n")


anyio.run(main, Path(sys.argv[1]))
