"""One CRM a room, behind the same small capability protocols."""

from __future__ import annotations

from crm_mcp.backends.base import Backend
from crm_mcp.config import Settings
from crm_mcp.errors import SettingsError, choices

VENDORS = ("local",)


def open_backend(settings: Settings) -> Backend:
    """Return the CRM that the settings name; nothing is connected yet.

    Raises:
        SettingsError: there is no such vendor.
    """
    connection = settings.connection
    match connection.vendor:
        case "local":
            # Imported by name, so that a server loads the one CRM that it serves.
            from crm_mcp.backends.local import Local

            return Local(
                settings.data_dir,
                country=settings.country,
                smtp_url=settings.smtp_url.get_secret_value() if settings.smtp_url else None,
                sample=settings.sample,
                mailbox=connection.defaults.mailbox,
            )
        case unknown:
            raise SettingsError(f'"{unknown}" is no vendor; {choices(unknown, VENDORS)}')
