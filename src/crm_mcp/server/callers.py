"""Who calls, and how its user is asked, in both eras of the protocol."""

from __future__ import annotations

from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from crm_mcp.actions.confirmation import ANSWER_WITHIN
from crm_mcp.actions.intent import Answer, Question
from crm_mcp.config import Fallback, operating_system_user
from crm_mcp.text import one_line

QUESTION = "confirm"
FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "confirm": {"type": "boolean", "title": "Go ahead", "description": "Yes: do exactly this. No: do nothing."}
    },
    "required": ["confirm"],
}


NAME_MOST = 80
REQUEST_MOST = 200
UNNAMED = "unnamed client"


class MustAsk(Exception):
    """The call ends here with a question; the client makes it again with the answer (2026-07-28)."""

    def __init__(self, question: Question) -> None:
        super().__init__(question.id)
        request = types.ElicitRequest(
            params=types.ElicitRequestFormParams(message=question.text, requested_schema=FORM)
        )
        self.result = types.InputRequiredResult(input_requests={QUESTION: request}, request_state=question.id)


class CallingClient:
    """The client of one call, as `actions.intent.Client` wants it."""

    def __init__(
        self,
        ctx: ServerRequestContext[Any, Any],
        params: types.CallToolRequestParams,
        fallback: Fallback,
    ) -> None:
        self._ctx = ctx
        self._params = params
        self.fallback: Fallback = fallback

    @property
    def caller(self) -> str:
        """The OS user (over HTTP: `loopback`) and the client's name."""
        info = self._ctx.session.client_params
        name = client_name(info.client_info.name if info else "")
        return f"{'loopback' if self._ctx.request is not None else operating_system_user()} via {name}"

    @property
    def request(self) -> str | None:
        """The id of the client's request."""
        return None if self._ctx.request_id is None else _name(str(self._ctx.request_id), REQUEST_MOST)

    @property
    def _modern(self) -> bool:
        return self._ctx.protocol_version in MODERN_PROTOCOL_VERSIONS

    @property
    def answering(self) -> str | None:
        """The action whose question this call answers."""
        return self._params.request_state if self._modern and self._params.input_responses else None

    @property
    def can_be_asked(self) -> bool:
        """Whether it declared form elicitation, and can be reached now."""
        capabilities = self._ctx.session.client_capabilities
        asked = capabilities.elicitation if capabilities else None
        if asked is None or (asked.form is None and asked.url is not None):
            return False
        return self._modern or self._ctx.session.can_send_request

    async def ask(self, question: Question) -> Answer:
        """Put the question to the user.

        Raises:
            MustAsk: the protocol wants the call to end with the question.
        """
        if self._modern:
            if self.answering != question.id:
                raise MustAsk(question)
            answer = (self._params.input_responses or {}).get(QUESTION)
            return _read(answer if isinstance(answer, types.ElicitResult) else None)
        try:
            with anyio.move_on_after(ANSWER_WITHIN):
                return _read(await self._ctx.session.elicit_form(question.text, FORM, self._ctx.request_id))
        except MCPError:
            return "silence"  # it says that it can be asked, and can't
        return "silence"

    async def progress(self, done: int, total: int) -> None:
        """Say how far the call has come, where the client wants to know."""
        await self._ctx.session.report_progress(done, total)


def client_name(given: str) -> str:
    """Return what a client calls itself as it stands in what is kept and shown: one line of at most 80 characters.

    Two names that are one when they are clean are one caller. Nobody gains by that: a client says its name itself, and
    could say the other's as it is. What tells callers apart for certain stands before it.
    """
    return _name(given, NAME_MOST) or UNNAMED


def _name(given: str, most: int) -> str:
    return one_line(one_line(given)[:most])  # the cut may part a joiner from what it joins


def _read(result: types.ElicitResult | None) -> Answer:
    if result is None or result.action == "cancel":
        return "dismissed"
    confirmed = result.action == "accept" and (result.content or {}).get("confirm") is True
    return "yes" if confirmed else "no"
