"""What tests of every room may ask for."""

from __future__ import annotations

from .databases import bare_postgres_url, postgres_server, postgres_url

__all__ = ["bare_postgres_url", "postgres_server", "postgres_url"]
