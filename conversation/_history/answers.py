"""The part of a conversation that the model has answered."""

from __future__ import annotations

from collections.abc import Sequence

from conversation._values.turns import AssistantTurn, SystemTurn, Turn


def is_unanswered(turns: Sequence[Turn]) -> bool:
    """Return True if a user turn, a tool result or calls without results stand last.

    System turns behind them do not count.
    """
    end = _end_of_talk(turns)
    return end > 0 and answer_behind(turns, end - 1) is None


def answer_behind(turns: Sequence[Turn], position: int) -> AssistantTurn | None:
    """Return the first answer without calls from a position on: it answers all before it."""
    for at in range(position, len(turns)):
        turn = turns[at]
        if isinstance(turn, AssistantTurn) and not turn.tool_calls:
            return turn
    return None


def last_answer(turns: Sequence[Turn], known: int) -> AssistantTurn | None:
    """Return the answer that stands last, if the model has nothing more to answer.

    Args:
        turns: All turns.
        known: Number of turns that the caller knows: behind an answer that is news, system turns
            were not added to have the model speak again.
    """
    end = _end_of_talk(turns)
    if end == 0 or known >= end < len(turns):
        return None
    return answer_behind(turns[end - 1 : end], 0)


def end_of_answers(turns: Sequence[Turn]) -> int:
    """Return the position behind the last answer: no model has seen what follows."""
    end = len(turns)
    while end and not isinstance(turns[end - 1], AssistantTurn):
        end -= 1
    return end


def _end_of_talk(turns: Sequence[Turn]) -> int:
    """Return the position behind the last turn that is not the system's."""
    end = len(turns)
    while end and isinstance(turns[end - 1], SystemTurn):
        end -= 1
    return end
