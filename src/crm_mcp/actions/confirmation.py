"""How the answer to a question is bound to exactly what was asked.

A question is a row of the store before it is asked: the row keeps the arguments that will run and every value that the
preview showed or the action uses. The answer serves once, for the same caller, within ten minutes, and only while those
values are still the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

GOOD_FOR = timedelta(minutes=10)
APPROVAL_GOOD_FOR = timedelta(hours=72)
ANSWER_WITHIN = 45.0
"""Seconds that a client of the older protocol has for its answer: the call stays open meanwhile."""


def digest(tool: str, connection: str, arguments: Mapping[str, Any]) -> str:
    """Return the fingerprint that a confirmation is bound to."""
    canonical = json.dumps([tool, connection, arguments], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
