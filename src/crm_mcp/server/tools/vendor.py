"""The toolset `vendor`: every documented operation of the connected CRM, with and without a tool.

What it is made of is loaded when it is used: the embedded CRM has no such operations, and start-up counts.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from crm_mcp.actions.context import Context
from crm_mcp.actions.declared import Effect
from crm_mcp.actions.intent import Outcome, Preview
from crm_mcp.backends.base import FindsLeads, HasOperations
from crm_mcp.model import Line
from crm_mcp.server.pagination import fitted
from crm_mcp.server.tool import Arguments, tool

Operation = Annotated[Line, Field(description="name from find_operation")]
Given = Annotated[dict[str, Any] | None, Field(description="its parameters by name")]


@tool(Effect.READ, needs=HasOperations)
async def find_operation(context: Context, query: Line) -> dict[str, Any]:
    """Find operations of the vendor's API by words, for what no other tool does. Parameters with * are required."""
    from crm_mcp.actions.vendor_operations.call import IN_FULL, MOST_FOUND, described, find

    found = find(context, query)

    async def build(most: int) -> dict[str, Any]:
        kept = found[:most]
        result: dict[str, Any] = {"operations": [described(context, each, full=len(kept) <= IN_FULL) for each in kept]}
        return result | ({"left_out": {"operations": len(found) - len(kept)}} if len(found) > len(kept) else {})

    return await fitted(max(min(len(found), MOST_FOUND), 1), build)


@tool(Effect.READ, needs=HasOperations)
async def read_operation(context: Context, operation: Operation, arguments: Given = None) -> dict[str, Any]:
    """Carry out an operation that only reads."""
    from crm_mcp.actions.vendor_operations.call import read

    return {"answer": await read(context, operation, arguments or {})}


class CallOperation(Arguments):
    operation: Operation
    arguments: Given = None


async def ask_call_operation(context: Context, call: CallOperation) -> Preview:
    """Read the people whom the operation names: what the person confirms is who is really reached."""
    from crm_mcp.actions.vendor_operations.call import preview_operation

    return await preview_operation(context, call.operation, call.arguments or {})


@tool(
    Effect.DESTRUCTIVE,
    needs=(FindsLeads, HasOperations),
    creates="any",
    instead=f"{find_operation.name} may have an operation that takes it back",
    ask=ask_call_operation,
    may_confirm=True,
    outside=True,
)
async def call_operation(context: Context, call: CallOperation, shown: Preview) -> Outcome:
    """Carry out any other operation that has no tool. The user is asked first, unless it only writes."""
    from crm_mcp.actions.vendor_operations.call import carry_out

    return await carry_out(context, shown, call.operation, call.arguments or {})


TOOLS = (find_operation, read_operation, call_operation)
