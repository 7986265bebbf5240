"""The commands as the command-line library knows them; what each does stands in a file of its own."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, cast

import anyio
import typer
from mcp.shared.exceptions import MCPError
from rich.console import Console
from rich.table import Table

from crm_mcp.cli import terminal
from crm_mcp.cli.terminal import complain, say_json, say_lines
from crm_mcp.config import Connection, Settings, load
from crm_mcp.errors import CrmError, CrmMcpError, SettingsError, Undecided, choices
from crm_mcp.text import one_line

if TYPE_CHECKING:
    from crm_mcp.server.app import Application

app = typer.Typer(
    help="The operations of a CRM for AI agents, as an MCP server. Without a command it serves on stdio.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def run() -> int:
    """Run the command that the arguments name; returns the exit code."""
    try:
        return app(standalone_mode=False) or 0
    except Exception as error:
        misread: Any = error
        if hasattr(misread, "show"):  # the library tells how the command is used; what it quotes stays in its line
            misread.message = one_line(misread.message)
            misread.show()
            return misread.exit_code
        raise


@app.command()
def serve(
    http: Annotated[
        str | None, typer.Option("--http", metavar="HOST:PORT", help="over HTTP, on a loopback address")
    ] = None,
) -> None:
    """Serve MCP on stdio, or over HTTP at /mcp."""
    from crm_mcp.cli.serving import serve_http, serve_stdio

    if http is None:
        raise typer.Exit(serve_stdio())
    try:
        serve_http(_settings(), http)
    except CrmMcpError as error:
        _stop(error)


@app.command()
def demo() -> None:
    """One sales morning on sample data: a real client talks to the real server, and every step is shown."""
    from crm_mcp.cli.demo import run_demo

    raise typer.Exit(_talk(run_demo, Console()))


@app.command()
def check() -> None:
    """Try every configured connection and say what was found; exit 1 when one fails."""
    from crm_mcp.cli.checking import check_all

    raise typer.Exit(anyio.run(check_all, _application()))


@app.command()
def sandbox(
    vendors: Annotated[list[str] | None, typer.Argument(metavar="VENDOR ...", help="default: all four")] = None,
    port: Annotated[int, typer.Option(help="of the first; the others take the next ones; 0: any free")] = 8765,
    empty: Annotated[bool, typer.Option("--empty", help="without sample data")] = False,
    switches: Annotated[
        list[str] | None, typer.Option("--switch", metavar="NAME=VALUE", help="choose a reading; see docs/sandbox.md")
    ] = None,
) -> None:
    """Run emulators of the vendors' APIs on this machine, for trying things without an account."""
    from crm_mcp.cli.sandbox import run_sandbox

    try:
        run_sandbox(vendors or [], port, sample=not empty, switches=switches or [])
    except CrmMcpError as error:
        _stop(error)


@app.command()
def tools(
    as_json: Annotated[bool, typer.Option("--json", help="the whole list as JSON")] = False,
    check_documents: Annotated[bool, typer.Option("--check", help="are README and manifest up to date?")] = False,
    write: Annotated[bool, typer.Option("--write", help="bring README and manifest up to date")] = False,
) -> None:
    """List the tools served with the present settings: effect, verdict and size in tokens."""
    from crm_mcp.cli import documents

    application = _application()
    if check_documents or write:
        raise typer.Exit(documents.settle(Path.cwd(), write=write))
    listed = documents.listed(application)
    if as_json:
        say_json(listed, indent=2)
        return
    table = Table("tool", "toolset", "effect", "verdict", "tokens", box=None)
    for each in listed:
        table.add_row(each["name"], each["toolset"], each["effect"], each["verdict"], str(each["tokens"]))
    table.add_section()
    table.add_row(f"{len(listed)} tools", "", "", "", f"about {sum(each['tokens'] for each in listed)}")
    Console().print(table)


@app.command()
def call(
    tool: Annotated[str, typer.Argument(help="the tool's name")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="key=value", help="its arguments")] = None,
    given: Annotated[str | None, typer.Option("--json", help="arguments as a JSON object")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="answer yes when a guard asks")] = False,
    output: Annotated[Literal["text", "json"], typer.Option(help="json: the structured result alone")] = "text",
) -> None:
    """Call one tool through a real MCP client and print the result; asks here when a guard asks."""
    _application()  # what is wrong with the settings is said here, not by a server that does not start

    async def ask(question: str) -> bool:
        try:  # in this thread, which alone hears Ctrl-C: meanwhile nothing else happens
            return yes or terminal.ask(question)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None  # the loop would log the other one with its traceback

    raise typer.Exit(_talk(_call, tool, arguments or [], given, ask, output))


@app.command()
def approvals(
    verdict: Annotated[str, typer.Argument(metavar="list|approve|decline", help="default: list")] = "list",
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID ...", help="of the actions")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="approve without a question")] = False,
) -> None:
    """The queue of actions that wait for a person: list it, approve some of them by id, or decline them."""
    from crm_mcp.cli.approvals import approve, decline, list_waiting

    if verdict not in ("list", "approve", "decline"):
        _refuse(f'"{verdict}" is none of its commands; {choices(verdict, ("list", "approve", "decline"))}')
    if bool(ids) == (verdict == "list"):
        _refuse(f"`approvals {verdict}` takes {'no ids' if ids else 'the ids of the actions'}")
    if yes and verdict != "approve":
        _refuse("--yes goes with approve")
    if verdict == "list":
        raise typer.Exit(_run(list_waiting, _application()))
    if verdict == "decline":
        raise typer.Exit(_run(decline, _application(), ids or []))
    if not yes and not terminal.can_ask():
        _refuse("`approvals approve` asks before it runs an action, and this is no terminal; with --yes it runs them")
    ask = None if yes else partial(terminal.ask, "")
    raise typer.Exit(_run(approve, _application(), ids or [], ask))


@app.command()
def outbound(
    wanted: Annotated[str | None, typer.Argument(metavar="[off|on]", help="without one: how it is")] = None,
) -> None:
    """The kill switch: while it is off nothing goes out, from any server on the same state."""
    from crm_mcp.cli.approvals import switch_outbound

    if wanted not in (None, "on", "off"):
        _refuse(f'"{wanted}" is neither on nor off')
    raise typer.Exit(_run(switch_outbound, _application(), wanted))


@app.command()
def audit(
    since: Annotated[str | None, typer.Option(help="a time, or how long ago: 24h, 7d")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="a JSON object for each entry")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="was an entry altered, removed or moved?")] = False,
    head: Annotated[
        str | None, typer.Option(metavar="HASH", help="the head of an earlier time: was the end cut off?")
    ] = None,
) -> None:
    """What was done, by whom, with what result; and whether that log is still as it was written."""
    from crm_mcp.cli.auditing import print_log, print_verified

    if head and not verify:
        _refuse("--head goes with --verify")
    if verify and (since or as_json):
        _refuse("--verify looks at the whole log; it takes --head alone")
    if verify:
        raise typer.Exit(_run(print_verified, _application(), head))
    raise typer.Exit(_run(partial(print_log, as_json=as_json), _application(), since))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv")],
    mapped: Annotated[
        list[str] | None, typer.Option("--map", metavar="column=field", help="may be given again")
    ] = None,
    skipped: Annotated[
        list[str] | None, typer.Option("--skip", metavar="column", help="leave a column out; may be given again")
    ] = None,
    if_exists: Annotated[
        Literal["skip", "update", "error"], typer.Option(help="a lead that is there already")
    ] = "skip",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="read and check, write nothing")] = False,
    crm: Annotated[str | None, typer.Option("--crm", help="which connection, where several are configured")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask before the first row")] = False,
) -> None:
    """Import leads from a CSV. Bad rows go to FILE.rejected.csv; run it again to go on where it stopped."""
    from crm_mcp.cli.importing import import_file

    ask = None if yes or not terminal.can_ask() else terminal.ask
    try:
        settings = _application().settings
        connection = _connection(settings, crm)
        columns = mapped or [], skipped or []
        totals = anyio.run(import_file, settings, connection, file, *columns, if_exists, dry_run, ask, Console())
    except CrmMcpError as error:
        _stop(error)
    raise typer.Exit(totals.exit_code)


def _run(work: Callable[..., Awaitable[int]], *arguments: Any) -> int:
    try:
        return anyio.run(work, *arguments)
    except CrmMcpError as error:
        _stop(error)


def _refuse(why: str) -> NoReturn:
    complain(why)
    raise typer.Exit(2)


def _talk(work: Callable[..., Awaitable[int]], *arguments: Any) -> int:
    """Run what talks to a server; where that breaks off, say why in one line."""
    try:
        return anyio.run(work, *arguments)
    except (MCPError, OSError, RuntimeError) as error:
        stopped: BaseException = error
    except BaseExceptionGroup as group:
        stopped = _innermost(group)
    if isinstance(stopped, typer.Exit):
        raise stopped
    complain(f"stopped: {stopped}")
    return 1


def _innermost(error: BaseException) -> BaseException:
    inner: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    return _innermost(inner[0]) if inner else error


async def _call(tool: str, pairs: list[str], given: str | None, ask: Any, output: str) -> int:
    from crm_mcp.cli.talking import coerced, connected, text_in
    from crm_mcp.server.rendering import set_apart

    async with connected(ask) as client:
        schemas = {each.name: each.input_schema for each in (await client.list_tools()).tools}
        try:
            arguments: dict[str, Any] = {
                **_object(given or "{}"),
                **coerced(schemas.get(tool, {}), pairs),
            }
        except ValueError as error:
            complain(f"the arguments can't be read: {error}")
            return 2
        if tool not in {*schemas, *_tool_names()}:  # why one of ours is not served, the server says
            complain(f'there is no tool "{tool}"; {choices(tool, schemas)}')
            return 2
        result = await client.call_tool(tool, arguments)
    if output == "json":
        say_json(result.structured_content or {"error": text_in(result)})
    else:
        say_lines(set_apart(text_in(result), "  "))
    return 1 if result.is_error else 0


def _tool_names() -> set[str]:
    from crm_mcp.server.tools import TOOLS

    return {each.name for each in TOOLS}


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"--json is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("--json is no JSON object")  # noqa: TRY004 - as every other mistake in the arguments
    return cast("dict[str, Any]", found)


def _settings() -> Settings:
    try:
        return load()
    except CrmMcpError as error:
        _stop(error)


def _connection(settings: Settings, named: str | None) -> Connection:
    """Return the connection with this name, or the only one."""
    by_name = {each.name: each for each in settings.connections}
    if named is None and len(by_name) == 1:
        return settings.connections[0]
    if named not in by_name:
        what = f'there is no connection "{named}"' if named else "which connection? give --crm"
        raise SettingsError(f"{what}; {choices(named or '', by_name)}")
    return by_name[named]


def _application() -> Application:
    """Return the application, which refuses what the settings get wrong; it opens nothing by itself."""
    from crm_mcp.server.app import Application

    try:
        return Application(_settings())
    except CrmMcpError as error:
        _stop(error)


def _stop(error: CrmMcpError) -> NoReturn:
    code = f"{error.code}: " if isinstance(error, CrmError) else ""
    complain(f"{code}{error}")
    raise typer.Exit(2 if not isinstance(error, CrmError) else 3 if isinstance(error, Undecided) else 1)
