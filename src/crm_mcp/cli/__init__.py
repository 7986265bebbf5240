"""The commands. `serve` on stdio is started without the command-line library: a client waits for it."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that the arguments name; `crm-mcp` alone serves on stdio."""
    from crm_mcp.cli.terminal import log_to_stderr

    log_to_stderr()
    if sys.argv[1:] in ([], ["serve"]):
        from crm_mcp.cli.serving import serve_stdio

        sys.exit(serve_stdio())
    from crm_mcp.cli.commands import run

    sys.exit(run())
