"""`crm-mcp sandbox`: the settings that it prints lead to its emulators."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from .running import answer_of, run, start


@contextmanager
def sandbox(folder: Path, *arguments: str) -> Generator[tuple[subprocess.Popen[str], dict[str, dict[str, str]]]]:
    """Run it on free ports; gives the process and, by vendor, the settings that it printed."""
    process = start(folder, "sandbox", *arguments, "--port", "0")
    try:
        assert process.stdout is not None
        settings: dict[str, dict[str, str]] = {}
        while (line := process.stdout.readline()) != "Ctrl-C ends it.\n":
            assert line, process.communicate(timeout=10)[1]
            if found := re.fullmatch(r"  export (CRM_MCP_VENDOR)=(\w+)\n", line):
                settings[found[2]] = {found[1]: found[2]}
            elif found := re.fullmatch(r"  export (CRM_MCP_\w+)=(\S+)\n", line):
                settings[list(settings)[-1]][found[1]] = found[2]
            elif found := re.fullmatch(r"  what arrives: (\S+)\n", line):
                settings[list(settings)[-1]]["JOURNAL"] = found[1]
        yield process, settings
    finally:
        process.kill()
        process.communicate()


def test_its_settings_lead_to_it_and_ctrl_c_ends_it(tmp_path: Path):
    with sandbox(tmp_path, "dialsheet", "salespulse") as (process, settings):
        for vendor, given in settings.items():
            journal = given.pop("JOURNAL")
            found = answer_of(run(tmp_path, "call", "search_leads", "limit=2", "--output", "json", **given))
            with urlopen(journal, timeout=5) as answer:  # what it prints is on loopback
                arrived = json.loads(answer.read())

            assert given["CRM_MCP_VENDOR"] == found["crm"] == vendor
            assert len(found["leads"]) == 2
            assert {each["method"] for each in arrived} == {"GET"}
        assert list(settings) == ["dialsheet", "salespulse"]

        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)

        assert (process.returncode, said) == (0, "")


def test_without_sample_data_and_with_another_reading(tmp_path: Path):
    with sandbox(tmp_path, "salespulse", "--empty", "--switch", "page_size=7", "--switch", "order=oldest") as (
        _,
        found,
    ):
        given = found["salespulse"]
        with urlopen(given.pop("JOURNAL").replace("journal", "switches"), timeout=5) as answer:
            switches = json.loads(answer.read())
        leads = answer_of(run(tmp_path, "call", "search_leads", "--output", "json", **given))["leads"]

    assert (switches["page_size"], switches["order"]) == (7, "oldest")
    assert leads == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dialshet"], 'there is no emulator of "dialshet"; valid: dialsheet, .*; nearest: "dialsheet"'),
        (["local"], 'there is no emulator of "local"; valid: dialsheet'),
        (["salespulse", "--switch", "ordr=oldest"], 'there is no switch "ordr"; valid: .*; nearest: "order"'),
        (["salespulse", "--switch", "order"], '"order" is no switch; write NAME=VALUE'),
        (["salespulse", "--switch", "sliding=maybe"], "--switch sliding: give a value such as false"),
        (["salespulse", "--switch", "page_size=many"], "--switch page_size: give a value such as 100"),
        (["salespulse", "--port", "70000"], "--port 70000 is no port; give 0 for any free one, or one up to 65535"),
        (["salespulse", "dialsheet", "--port", "65535"], "--port 65535 is no port; "),
        (["salespulse", "--port", "-1"], "--port -1 is no port; "),
    ],
)
def test_what_it_cannot_do_is_one_line(tmp_path: Path, arguments: list[str], said: str):
    result = run(tmp_path, "sandbox", *arguments)

    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(f"crm-mcp: {said}.*\n", result.stderr), result.stderr


def test_a_port_that_is_taken_is_one_line(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        result = run(tmp_path, "sandbox", "salespulse", "--port", str(port))

    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(f"crm-mcp: port {port} can't be used .*; give another with --port\n", result.stderr)
