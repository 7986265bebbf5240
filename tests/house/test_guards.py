"""The guards have one place: nothing beside them holds a CRM that has none, or does what they do by hand."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from crm_mcp.backends.verbs import Capability
from crm_mcp.channels import CHANNELS

from .sources import Source, served

ROOMS = ("actions", "server", "cli")
OPENED_IN = ("server.app", "cli.importing")
"""Where the CRMs are opened and closed; what is done with them goes by the guarded one."""
HOOK = ("actions.guarded_crm", "actions.guards.do_not_contact", "actions.pipeline", "actions.undo.deletion")
"""Where consent is tested and blocks are kept: the hook, its parts, the one early look, and what comes back anew."""
KEEPING = {"keep_blocks", "keep_at", "follow_blocks", "follow_flags", "refuse_consent_fields"}


def _calls(source: Source) -> Iterator[tuple[int, str]]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            yield node.lineno, name


def _of_the_rooms() -> list[Source]:
    return [each for each in served() if each.room in ROOMS]


def test_a_crm_without_guards_is_opened_in_two_places():
    wrong = [
        f"{source.shown}:{line} {name}"
        for source in _of_the_rooms()
        if source.module not in OPENED_IN
        for line, name in source.imports()
        if name == "crm_mcp.backends.open_backend"
    ]

    assert wrong == []


def test_what_a_crm_can_do_is_asked_and_not_guessed_from_its_class():
    capabilities = {each.__name__ for each in Capability.__subclasses__()}
    assert len(capabilities) > 20
    wrong = [
        f"{source.shown}:{node.lineno}"
        for source in _of_the_rooms()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "isinstance"
        and capabilities & {each.id for each in ast.walk(node.args[1]) if isinstance(each, ast.Name)}
    ]

    assert wrong == []


def test_blocks_are_kept_and_consent_is_refused_in_the_hook_alone():
    wrong = [
        f"{source.shown}:{line} {name}"
        for source in _of_the_rooms()
        if source.module not in HOOK
        for line, name in _calls(source)
        if name in KEEPING
    ]

    assert wrong == []


def test_every_channel_has_a_verb_that_says_it_reaches_somebody_there():
    from crm_mcp.backends.verbs import verbs_of

    marks = [does for each in Capability.__subclasses__() for does in verbs_of(each).values() if does]

    assert {each.channel for each in marks if each.channel} == {*CHANNELS, "enrolment"}
