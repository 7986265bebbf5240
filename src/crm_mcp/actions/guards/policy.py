"""What a call may do: its effect, and the verdict that the settings give it, by effect, tool, connection and size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from crm_mcp.actions.declared import Effect, Tools
from crm_mcp.config import PolicySettings, Verdict
from crm_mcp.errors import SettingsError, choices

if TYPE_CHECKING:  # a catalogue is read when it is used; start-up counts
    from crm_mcp.backends.catalog import Catalog

STRICTNESS: tuple[Verdict, ...] = ("allow", "confirm", "approve", "deny")
ASKS: tuple[Verdict, ...] = ("confirm", "approve")
"""The verdicts under which a person is asked."""


class Judged(NamedTuple):
    """A verdict, and the setting that gave it, as `policy.tools.move_stage`."""

    verdict: Verdict
    rule: str


class Policy:
    """The verdicts. A tool's own verdict wins over that of its effect; connection and size only make it stricter."""

    def __init__(self, settings: PolicySettings, tools: Tools) -> None:
        self.tools = tools
        self._by_effect: dict[Effect, Verdict] = {
            Effect.READ: settings.read,
            Effect.WRITE: settings.write,
            Effect.OUTWARD: settings.outward,
            Effect.DESTRUCTIVE: settings.destructive,
        }
        self._by_tool = settings.tools
        self._by_operation = settings.operations
        self._by_connection: dict[str, dict[Effect, Verdict]] = {
            name: {Effect(effect): verdict for effect, verdict in each.model_dump(exclude_none=True).items()}
            for name, each in settings.connections.items()
        }
        self._by_size: tuple[tuple[str, Verdict, int | None], ...] = (
            ("confirm_from", "confirm", settings.sizes.confirm_from),
            ("approve_from", "approve", settings.sizes.approve_from),
        )

    def check(self) -> None:
        """Raise SettingsError where the policy names a tool that does not exist, asks about one that is never asked
        about, or has a verdict of a connection that would change nothing."""
        for name, verdict in self._by_tool.items():
            tool = self.tools.get(name)
            if tool is None:
                raise SettingsError(f'policy.tools: "{name}" is no tool; {choices(name, self.tools)}')
            if verdict in ASKS and tool.effect is Effect.READ:
                raise SettingsError(f"policy.tools: {name} only reads, and is never confirmed; valid: allow, deny")
            if verdict in ASKS and tool.answers:
                raise SettingsError(
                    f"policy.tools: {name} gives an answer, and is never asked about; valid: allow, deny"
                )
        for connection, verdicts in self._by_connection.items():
            for effect, verdict in verdicts.items():
                general = self._by_effect[effect]
                if STRICTNESS.index(verdict) < STRICTNESS.index(general):
                    raise SettingsError(
                        f'policy.connections.{connection}.{effect}: "{verdict}" is looser than policy.{effect}, which '
                        f'is "{general}", and a connection can only be stricter; '
                        f"valid: {', '.join(STRICTNESS[STRICTNESS.index(general) :])}"
                    )

    def check_operations(self, catalogs: Iterable[Catalog]) -> None:
        """Raise SettingsError where the policy names an operation that no connected CRM has, or that a verdict can't
        be about: one that only reads is never confirmed, and one that a tool does is done by the tool."""
        known = {each.name: each for catalog in catalogs for each in catalog.operation}
        for name, verdict in self._by_operation.items():
            if name not in known:
                raise SettingsError(f'policy.operations: "{name}" is no operation; {choices(name, known)}')
            if verdict in ASKS and known[name].effect == "read":
                raise SettingsError(f"policy.operations: {name} only reads, and is never confirmed; valid: allow, deny")
            if verdict != "deny" and known[name].effect != "read" and (tool := known[name].tool):
                raise SettingsError(f"policy.operations: {name} is done by {tool}; give a verdict in policy.tools")

    def operation(self, name: str) -> Verdict | None:
        """Return the verdict of one operation of a vendor, None where it has none of its own."""
        return self._by_operation.get(name)

    @property
    def confirms_by_size(self) -> bool:
        """Whether what is allowed may be confirmed because it is about many records."""
        return any(verdict == "confirm" and first is not None for _, verdict, first in self._by_size)

    def verdict(self, tool: str, effect: Effect) -> Verdict:
        """Return what a tool is listed with: the verdict that its calls have at least."""
        return self._of_tool(tool, effect).verdict

    def judge(
        self,
        tool: str,
        effect: Effect,
        *,
        connection: str,
        size: int = 1,
        also: Iterable[str] = (),
        operation: str | None = None,
    ) -> Judged:
        """Return the strictest verdict on a call and the setting that gave it.

        `size` is how many records it is about; `also` names other tools whose work it does; `operation` is the
        vendor's operation that it carries out.
        """
        judged = [self._of_tool(each, effect) for each in (tool, *also)]
        if verdict := self._by_connection.get(connection, {}).get(effect):
            judged.append(Judged(verdict, f"policy.connections.{connection}.{effect}"))
        if operation and (verdict := self._by_operation.get(operation)):
            judged.append(Judged(verdict, f"policy.operations.{operation}"))
        if effect is not Effect.READ:
            judged += [
                Judged(verdict, f"policy.sizes.{name}")
                for name, verdict, first in self._by_size
                if first is not None and size >= first
            ]
        return max(judged, key=lambda each: STRICTNESS.index(each.verdict))

    def shown(self) -> dict[str, str]:
        """Return the verdicts for `crm_status`."""
        return {**{effect.value: verdict for effect, verdict in self._by_effect.items()}, **self._by_tool}

    def _of_tool(self, tool: str, effect: Effect) -> Judged:
        if own := self._by_tool.get(tool):
            return Judged(own, f"policy.tools.{tool}")
        return Judged(self._by_effect[effect], f"policy.{effect}")
