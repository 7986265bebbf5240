"""A served application on the embedded CRM, whose tools are called in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crm_mcp.backends.local import Local
from crm_mcp.config import PolicySettings, Settings
from crm_mcp.model import LeadDraft, Slice
from crm_mcp.server.app import Application
from crm_mcp.store import Action

from .roads import NUMBER, Clock, Person

FREE: dict[str, Any] = {"outward": "allow"}
AT_NIGHT: dict[str, Any] = {"outward": "allow", "quiet_hours": "00:00-23:59"}


class Office:
    """A served application on the embedded CRM, whose tools are called in this process."""

    def __init__(self, folder: Path, clock: Clock, policy: dict[str, Any], **settings: Any) -> None:
        self.application = Application(Settings(data_dir=folder, policy=PolicySettings(**policy), **settings))
        self.store = self.application.store
        self.store.clock = clock
        self.clock = clock
        [self.pipeline] = self.application.pipelines.values()
        self.context = self.pipeline.context
        [crm] = self.application.backends.values()
        assert isinstance(crm, Local)
        self.crm = crm
        """The CRM without its guards: what somebody does in it by hand."""

    async def call(self, name: str, *answers: Any, **arguments: Any) -> dict[str, Any]:
        tool, client = self.application.tools[name], Person(*answers)
        return await self.pipeline.act(tool.intent(self.context, tool.check(arguments), client), client)

    async def lead(self, number: str = NUMBER) -> str:
        draft = LeadDraft(name="Jane Doe", phone=number, email=f"jane{number}@doe.example")
        return (await self.crm.create_lead(draft)).id

    async def messages(self, lead: str) -> int:
        return len((await self.crm.list_messages(lead, Slice(limit=100))).items)

    async def newest(self) -> Action:
        rows, _ = await self.store.actions.page(caller=None, status=None, lead=None, after=None, limit=1)
        return rows[0]

    async def work(self) -> None:
        while await self.application.worker.work_once((self.context.connection,)):
            pass
