"""Whoever sits in front of a client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from itertools import repeat

from crm_mcp.actions.intent import Answer, Question
from crm_mcp.config import Fallback

ANN = "ann via tests"


class Person:
    """A client whose person gives these answers, one after the other; without any it can't be asked.

    Remembers what it was asked, and how far it was told that a job is.
    """

    def __init__(self, *answers: Answer, caller: str = ANN, fallback: Fallback = "token") -> None:
        self.caller = caller
        self.fallback: Fallback = fallback
        self.request: str | None = None
        self.answering: str | None = None
        self.can_be_asked = bool(answers)
        self.asked: list[Question] = []
        self.told: list[tuple[int, int]] = []
        self.before_the_answer: Callable[[], Awaitable[object]] | None = None
        self.once_told: Callable[[], Awaitable[object]] | None = None
        """What happens when it is first told how far a job is."""
        self._answers: Iterator[Answer] = iter(answers)

    @classmethod
    def agreeing(cls, *, caller: str = ANN) -> Person:
        """Return somebody who says yes to everything."""
        person = cls("yes", caller=caller)
        person._answers = repeat("yes")
        return person

    async def ask(self, question: Question) -> Answer:
        self.asked.append(question)
        if self.before_the_answer:
            await self.before_the_answer()
        answer = next(self._answers, None)
        assert answer is not None, f"nobody was to be asked this: {question.text}"
        return answer

    async def progress(self, done: int, total: int) -> None:
        self.told.append((done, total))
        if self.once_told:
            then, self.once_told = self.once_told, None
            await then()


class Left(Exception):
    """A call ended with its question: it is made again with the answer."""


async def leave() -> None:
    """Let a call end with its question."""
    raise Left
