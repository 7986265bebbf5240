"""What a call may do: its effect, and the verdict that settings give to that effect or to that one tool."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from crm_mcp.config import PolicySettings, Verdict
from crm_mcp.errors import SettingsError, choices

if TYPE_CHECKING:  # a catalogue is read when it is used; start-up counts
    from crm_mcp.backends.catalog import Catalog

STRICTNESS: tuple[Verdict, ...] = ("allow", "confirm", "deny")


class Effect(StrEnum):
    """What a tool does to the world; annotations, verdict, confirmation and record follow from it."""

    READ = "read"
    WRITE = "write"
    OUTWARD = "outward"
    """Somebody outside is reached: a message, a call, an enrolment."""
    DESTRUCTIVE = "destructive"
    """Something is lost that can't be brought back."""


class Policy:
    """The verdicts. A tool's own verdict wins over that of its effect."""

    def __init__(self, settings: PolicySettings) -> None:
        self._by_effect: dict[Effect, Verdict] = {
            Effect.READ: settings.read,
            Effect.WRITE: settings.write,
            Effect.OUTWARD: settings.outward,
            Effect.DESTRUCTIVE: settings.destructive,
        }
        self._by_tool = settings.tools
        self._by_operation = settings.operations

    def check(self, tools: Mapping[str, Effect]) -> None:
        """Raise SettingsError where the policy names a tool that does not exist, or confirms one that only reads."""
        for name, verdict in self._by_tool.items():
            if name not in tools:
                raise SettingsError(f'policy.tools: "{name}" is no tool; {choices(name, tools)}')
            if verdict == "confirm" and tools[name] is Effect.READ:
                raise SettingsError(f"policy.tools: {name} only reads, and is never confirmed; valid: allow, deny")

    def check_operations(self, catalogs: Iterable[Catalog]) -> None:
        """Raise SettingsError where the policy names an operation that no connected CRM has, or that a verdict can't
        be about: one that only reads is never confirmed, and one that a tool does is done by the tool."""
        known = {each.name: each for catalog in catalogs for each in catalog.operation}
        for name, verdict in self._by_operation.items():
            if name not in known:
                raise SettingsError(f'policy.operations: "{name}" is no operation; {choices(name, known)}')
            if verdict == "confirm" and known[name].effect == "read":
                raise SettingsError(f"policy.operations: {name} only reads, and is never confirmed; valid: allow, deny")
            if verdict != "deny" and known[name].effect != "read" and (tool := known[name].tool):
                raise SettingsError(f"policy.operations: {name} is done by {tool}; give a verdict in policy.tools")

    def operation(self, name: str) -> Verdict | None:
        """Return the verdict of one operation of a vendor, None where it has none of its own."""
        return self._by_operation.get(name)

    def verdict(self, tool: str, effect: Effect) -> Verdict:
        """Return `allow`, `confirm` or `deny`."""
        return self._by_tool.get(tool) or self._by_effect[effect]

    def strictest(self, tool: str, effect: Effect, also: tuple[str, ...]) -> Verdict:
        """Return the strictest verdict of a tool and of the others whose work it does."""
        verdicts: list[Verdict] = [self.verdict(each, effect) for each in (tool, *also)]
        return max(verdicts, key=STRICTNESS.index)

    def shown(self) -> dict[str, str]:
        """Return the verdicts for `crm_status`."""
        return {**{effect.value: verdict for effect, verdict in self._by_effect.items()}, **self._by_tool}
