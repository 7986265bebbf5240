"""`crm-mcp check`: what is behind each connection, and what to do where something is wrong."""

from __future__ import annotations

from crm_mcp.actions.context import Context
from crm_mcp.cli.terminal import say
from crm_mcp.config import Connection
from crm_mcp.errors import Busy, CrmError, Forbidden, PaymentRequired, TimedOut, Unauthorized, Unreachable
from crm_mcp.server.app import Application
from crm_mcp.server.fan_out import ask_each

_OF = {
    "minute": "calls left in the minute",
    "day": "calls left in the day",
    "bulk": "bulk calls left in the minute",
}


async def check_all(application: Application) -> int:
    """Try all connections at once and print what was found; returns the exit code, 1 where one failed."""
    connections = {each.name: each for each in application.settings.connections}

    async def look(context: Context) -> tuple[bool, list[str]]:
        return await _look(context, connections[context.connection])

    try:
        found = await ask_each(look, list(application.contexts.values()))
    finally:
        await application.aclose()
    for _, lines in found:
        say(lines[0])
        for each in lines[1:]:
            say(each, margin="  ")
    return 0 if all(fine for fine, _ in found) else 1


async def _look(context: Context, connection: Connection) -> tuple[bool, list[str]]:
    """Return whether a connection works, and what is said of it: a heading, and what stands below it."""
    head = f"{context.connection} ({context.vendor})"
    error: CrmError | None = None
    try:
        account = await context.account.check()
    except CrmError as failure:
        error = failure
        lines = [f"{head}: FAILED", f"{error.code}: {error}"]
    else:
        lines = [f"{head}: ok", account.found]
        lines += [f"user: {account.user}"] if account.user else []
        lines += [f"plan: {account.plan}"] if account.plan else []
    if context.vendor != "local":
        lines.append(_key(error, connection))
    lines.append(f"can: {', '.join(context.account.capabilities())}")
    budget = await context.account.budget()
    said = [f"{each.remaining:,} of {each.limit:,} {_OF.get(each.name, each.name)}" for each in budget]
    lines.append(f"limits: {'; '.join(said) or 'none'}")
    return error is None, lines


def _key(error: CrmError | None, connection: Connection) -> str:
    """Return whether the vendor was reached, and what it thinks of the key."""
    match error:
        case None:
            return "reached: yes; key: accepted"
        case Unreachable() | TimedOut():
            return "reached: no; key: not tried"
        case Busy():
            return "reached: not now; key: not tried"
        case Unauthorized():
            return f"reached: yes; key: not accepted (it comes from {connection.key_from})"
        case Forbidden() | PaymentRequired():
            return "reached: yes; key: without the right, or not covered by the plan"
        case _:
            return "reached: yes; key: not known, as the answer made no sense"
