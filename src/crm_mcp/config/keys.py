"""Secrets of this server's own: made on the first use, and kept in the data directory for their owner alone."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from pydantic import SecretStr

from crm_mcp.errors import Unreachable


def sealing_key(folder: Path) -> bytes:
    """Return the secret that seals cursors, kept in this data directory (mode 0600).

    Raises:
        Unreachable: it can be neither read nor written.
    """
    return _kept(folder / "key")


def audit_key(given: SecretStr | None, folder: Path) -> bytes:
    """Return the secret that seals the audit log: the one that is set, else one kept in this data directory.

    Raises:
        Unreachable: it can be neither read nor written.
    """
    return _kept(folder / "audit.key") if given is None else given.get_secret_value().encode()


@functools.lru_cache(maxsize=8)
def _kept(path: Path) -> bytes:
    """Return the secret in a file, which is made where there is none."""
    folder = path.parent
    try:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Written aside and linked into place, so that two processes that start together agree on one whole key.
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_bytes(os.urandom(32))
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        return path.read_bytes()
    except OSError as error:
        raise Unreachable(
            f"the data directory {folder} can't be used ({error.strerror})", "see CRM_MCP_DATA_DIR"
        ) from None
