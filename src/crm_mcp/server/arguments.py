"""The types of tool parameters that several tools share, described for a model."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, StringConstraints

from crm_mcp import model
from crm_mcp.address import email_address
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import Line, Text


def _date_or_moment(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value.strip()):
        return f"{value.strip()}T00:00:00Z"
    if isinstance(value, int | float):
        raise ValueError("give a time such as 2026-03-20T10:00:00Z")  # noqa: TRY004 - pydantic wants ValueError
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is beyond the calendar") from None


def _address(value: str) -> str:
    try:
        return email_address(value)
    except InvalidArgument as error:
        raise ValueError(str(error)) from None


LeadKey = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=320),
    Field(description="id, e-mail or phone"),
]
Id = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
When = Annotated[AwareDatetime, BeforeValidator(_date_or_moment), AfterValidator(_in_utc)]
"""A moment with its zone; a bare date is its midnight in UTC."""
Limit = Annotated[int, Field(ge=1, le=100)]
Cursor = Annotated[str, Field(description="next_cursor of the same list", max_length=8000)]
Email = Annotated[str, StringConstraints(max_length=320), AfterValidator(_address)]
Phone = Annotated[str, StringConstraints(max_length=40, strip_whitespace=True)]
Tags = list[Line]
CustomFields = Annotated[model.CustomFields, Field(description="by label")]
Leads = Annotated[list[LeadKey], Field(min_length=1, max_length=1000)]
Sms = Annotated[Text, StringConstraints(max_length=1600)]
LinkedIn = Annotated[Text, StringConstraints(max_length=8000)]
Subject = Annotated[Line, StringConstraints(max_length=200)]
Body = Annotated[Text, StringConstraints(max_length=20_000)]
