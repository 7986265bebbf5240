"""Asking all connections at once: each answers or says what is wrong, and one cursor goes on in all of them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
from pydantic import BaseModel

from crm_mcp.actions.context import Context
from crm_mcp.actions.intent import Client
from crm_mcp.errors import Busy, CrmError, TimedOut, Unreachable, Unsupported, VendorError
from crm_mcp.server.pagination import fitted, seal, unseal
from crm_mcp.server.tool import Tool

R = TypeVar("R")
Answer = dict[str, Any] | CrmError
BEGIN = ""
"""The cursor of a connection that has not answered yet."""
MOST_TOLD = 300
"""Characters of an error that a cursor keeps: it must stay short enough to be given back."""
PASSING = (Busy, TimedOut, Unreachable, VendorError)
"""Failures that may be over when the next page is asked for."""


async def ask_each(ask: Callable[[Context], Awaitable[R]], contexts: Sequence[Context]) -> list[R]:
    """Ask all contexts at once; returns the answers in their order."""
    answers: dict[str, R] = {}

    async def one(context: Context) -> None:
        answers[context.connection] = await ask(context)

    async with anyio.create_task_group() as tasks:
        for context in contexts:
            tasks.start_soon(one, context)
    return [answers[context.connection] for context in contexts]


def unable(tool: Tool, context: Context, contexts: Iterable[Context]) -> Unsupported:
    """Return the error for a connection whose CRM can't do what a tool needs; it names those of `contexts` that can."""
    able = [each.connection for each in contexts if tool.served_by(each)]
    return Unsupported(f"{context.connection} ({context.vendor}) can't do {tool.name}", f"it can in {', '.join(able)}")


async def ask_all(tool: Tool, checked: BaseModel, contexts: Sequence[Context], client: Client) -> dict[str, Any]:
    """Call a listing tool, with checked arguments, on every connection and put the answers together.

    Each row names its connection (`crm`); `connections` says of each that was asked whether it answered or what is
    wrong, and says it again, page by page, of those that can't do it at all or have failed for good. The cursor has the
    cursors of all that have more. One that failed for the moment is asked once again when the others have no more; so a
    list has every row, and an end. `total` is null until all were counted.
    """
    query = {"all": tool.name, **checked.model_dump(mode="json", exclude={"limit", "cursor"}, exclude_none=True)}
    by_name = {each.connection: each for each in contexts}
    cannot = {each.connection: unable(tool, each, contexts) for each in contexts if not tool.served_by(each)}
    begin = {name: BEGIN for name in by_name if name not in cannot}
    place = _Place(begin, total=None if cannot else 0)
    if cursor := getattr(checked, "cursor", None):
        place = _Place.after(unseal(contexts[0], query, cursor))
    paged = "limit" in tool.arguments.model_fields
    waiting = [by_name[name] for name in place.turn() if name in by_name]

    async def build(most: int) -> dict[str, Any]:
        asked = waiting[:most]

        async def one(context: Context) -> dict[str, Any] | CrmError:
            own: dict[str, Any] = {}
            if paged:
                own["limit"] = most // len(asked) + (asked.index(context) < most % len(asked))
                own["cursor"] = place.cursors[context.connection] or None
            try:
                mine = checked.model_copy(update=own)
                answer: dict[str, Any] = await tool.call(mine, (context,), client)
            except CrmError as error:
                return error
            return answer

        answers = dict(zip((each.connection for each in asked), await ask_each(one, asked), strict=True))
        following = place.following(answers)
        lost = {name: said for name, said in following.lost.items() if name in by_name}
        wrong = {name: _line(error) for name, error in cannot.items()} | lost
        result = _together(
            str(tool.across), answers, [each for each in by_name if each in wrong or each in answers], wrong
        )
        if paged:
            goes_on = following.cursors.keys() & by_name.keys()
            result["next_cursor"] = seal(contexts[0], query, following.sealed) if goes_on else None
            if any(isinstance(answer, dict) and "total" in answer for answer in answers.values()):
                result["total"] = following.total if following.all_counted else None
        return result

    # What has no pages can't be made to fit by asking for less.
    return await (fitted(getattr(checked, "limit", len(contexts)), build) if paged else build(len(contexts)))


@dataclass(frozen=True)
class _Place:
    """Where a list over several connections has come to."""

    cursors: dict[str, str]
    """Of each connection that has more."""
    failed: list[str] = field(default_factory=list[str])
    """Those of them that failed for the moment when they were last asked."""
    total: int | None = 0
    """Of those that were counted; None where one does not tell its own or could not be asked."""
    lost: dict[str, str] = field(default_factory=dict[str, str])
    """What is wrong with those that have failed for good."""

    @classmethod
    def after(cls, sealed: str) -> _Place:
        return cls(*json.loads(sealed))

    @property
    def sealed(self) -> str:
        return json.dumps([self.cursors, self.failed, self.total, self.lost], separators=(",", ":"))

    @property
    def all_counted(self) -> bool:
        return BEGIN not in self.cursors.values()

    def turn(self) -> list[str]:
        """Return the connections whose turn it is: those that failed come when the others have no more."""
        return [name for name in self.cursors if name not in self.failed] or self.failed

    def following(self, answers: Mapping[str, Answer]) -> _Place:
        """Return the place after these answers; who fails for good, or twice in a row, is left out."""
        cursors, failed, total, lost = dict(self.cursors), list(self.failed), self.total, dict(self.lost)
        for name, answer in answers.items():
            before = cursors.pop(name)
            if isinstance(answer, PASSING) and name not in failed:
                failed.append(name)
                cursors[name] = before
                continue
            failed = [each for each in failed if each != name]
            if isinstance(answer, CrmError):
                lost[name] = _line(answer)[:MOST_TOLD]
            of_it = answer if isinstance(answer, dict) else {}
            if of_it.get("next_cursor"):
                cursors[name] = of_it["next_cursor"]
            if before == BEGIN:
                total = None if total is None or of_it.get("total") is None else total + of_it["total"]
        return _Place(cursors, failed, total, lost)


def _together(
    name: str, answers: Mapping[str, Answer], told: Iterable[str], wrong: Mapping[str, str]
) -> dict[str, Any]:
    """Return the rows of those that answered, and of each connection in `told` how it stands."""
    rows: list[dict[str, Any]] = []
    connections: list[dict[str, Any]] = []
    for connection, answer in answers.items():
        if isinstance(answer, dict):
            rows += [{"crm": connection, **row} for row in answer[name]]
    for connection in told:
        answer = answers.get(connection)
        error = _line(answer) if isinstance(answer, CrmError) else wrong.get(connection)
        status = {"status": "error", "error": error} if error else {"status": "ok"}
        connections.append({"crm": connection, **status})
    return {name: rows, "connections": connections}


def _line(error: CrmError) -> str:
    return f"{error.code}: {error}"
