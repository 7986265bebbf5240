"""One CRM a room, behind the same small capability protocols."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from crm_mcp.backends.base import Backend
from crm_mcp.config import Connection, Settings

if TYPE_CHECKING:  # a server loads the CRMs that it serves, and no HTTP library where there is none to call
    from crm_mcp.backends.remote import Remote

_REMOTE = {
    "dialsheet": "Dialsheet",
    "salessheet": "SalesSheet",
    "salespulse": "SalesPulse",
    "getsales": "GetSales",
}


def open_backend(settings: Settings, connection: Connection) -> Backend:
    """Return the CRM behind a connection; nothing is connected yet.

    Raises:
        SettingsError: a correction of a key names none.
    """
    if connection.vendor == "local":
        from crm_mcp.backends.local import Local

        return Local(
            settings.data_dir,
            country=settings.country,
            smtp_url=settings.smtp_url.get_secret_value() if settings.smtp_url else None,
            sample=settings.sample,
            mailbox=connection.defaults.mailbox,
        )
    from crm_mcp.backends.remote import Access

    assert connection.api_key is not None
    remote: type[Remote] = getattr(import_module(f"crm_mcp.backends.{connection.vendor}"), _REMOTE[connection.vendor])
    return remote(
        Access(
            key=connection.api_key,
            rate_limit_file=settings.rate_limit_file or settings.data_dir / "pace.sqlite3",
            base_url=connection.base_url,
            country=settings.country,
            team_id=connection.team_id,
            mailbox=connection.defaults.mailbox,
            sender=connection.defaults.sender,
            list=connection.defaults.list,
            keys=connection.corrections,
            per_minute=connection.per_minute,
            minute=connection.minute,
        )
    )
