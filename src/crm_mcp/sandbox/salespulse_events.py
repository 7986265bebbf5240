"""SalesPulse's events: what happened, and plain posts of it without a signature, as none is documented."""

from __future__ import annotations

import json
import urllib.request
from abc import ABC
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.error import HTTPError

import anyio.to_thread

from crm_mcp.model import rfc3339
from crm_mcp.sandbox.emulator import Emulator


class Events(Emulator, ABC):
    """What the webhooks of an account would tell."""

    events: list[dict[str, Any]]

    async def deliver(self, target: str) -> list[int]:
        """Post all events to an address, unsigned, in order or not and once or twice by the switches; the statuses."""
        events = self.events[::-1] if self.switches["events_reversed"] else list(self.events)
        if self.switches["events_twice"]:
            events = [each for event in events for each in (event, event)]
        self.events = []
        return await post_all(target, events)

    def receive(self, channel: str, lead: str, text: str, subject: str | None = None) -> str:
        """Let an SMS come in: an event, and no more, since the API has no messages. Its data are inferred."""
        if channel != "sms":
            return super().receive(channel, lead, text, subject)
        sms = f"sms_{len(self.events) + 1:06x}"
        self.tell("sms.received", {"sms_id": sms, "contact_id": lead, "direction": "inbound", "body": text})
        return sms

    def tell(self, event: str, data: dict[str, Any]) -> None:
        """Add an event."""
        at = rfc3339(datetime.fromtimestamp(int(self.clock()), UTC))
        self.events.append({"event": event, "timestamp": at, "data": dict(data)})


async def post_all(target: str, events: Sequence[dict[str, Any]]) -> list[int]:
    """Post one event after the other to an `http` address; returns the statuses.

    Raises:
        OSError: the address can't be reached.
    """
    return [await anyio.to_thread.run_sync(_post, target, each) for each in events]


def _post(target: str, event: dict[str, Any]) -> int:
    body = json.dumps(event).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(target, body, headers)  # noqa: S310 - the address is the tester's own
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - as above
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code
