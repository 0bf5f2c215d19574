"""Hypothesis strategies for turns and histories."""

from __future__ import annotations

from hypothesis import strategies as st

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AudioInput,
    FileInput,
    ImageInput,
    SystemTurn,
    ToolCall,
    ToolTurn,
    Usage,
    UserTurn,
)
from conversation._values.turns import Turn
from tests.samples import MP3, PNG, SOUND, START

words = st.text(min_size=1, max_size=20).filter(lambda text: bool(text.strip()))
any_text = st.text(max_size=20)
call_ids = st.sampled_from(["a", "b", "c"])

parts = st.one_of(
    words,
    st.builds(AudioInput, st.sampled_from([SOUND, MP3]), transcript=st.none() | any_text),
    st.builds(
        ImageInput,
        st.sampled_from([PNG, "https://example.org/a.png"]),
        st.sampled_from([None, "low", "high", "auto"]),
    ),
    st.builds(FileInput, st.binary(max_size=9), st.just("a.pdf")),
    st.builds(FileInput, file_id=words),
)
user_turns = st.builds(
    UserTurn,
    st.lists(parts, min_size=1, max_size=3).map(tuple),
    name=st.none() | any_text,
    message_id=st.none() | words,
)
system_turns = st.builds(SystemTurn, words, st.sampled_from(["system", "developer"]))
tool_turns = st.builds(ToolTurn, call_ids, any_text)
calls = st.builds(ToolCall, call_ids, words, any_text)
audio_ids = st.one_of(
    st.none(),
    st.sampled_from(["audio-0123456789abcdef", "audio_short"]),
    st.integers(0, 7200).map(lambda ago: f"audio_{int(START) - ago:08x}{'0' * 24}"),
)
audios = st.builds(
    AssistantAudio,
    id=audio_ids,
    expires_at=st.none() | st.integers(int(START) - 7200, int(START) + 7200),
    transcript=st.none() | any_text,
    data=st.sampled_from([None, SOUND, MP3, bytes(100), b""]),
    format=st.sampled_from([None, "pcm16", "wav"]),
    lost=st.booleans(),
)
counts = st.integers(0, 10**6)
usages = st.builds(Usage, *[counts] * 9)
assistant_turns = st.builds(
    AssistantTurn,
    content=st.none() | any_text,
    audio=st.none() | audios,
    tool_calls=st.lists(calls, max_size=3, unique_by=lambda call: call.id),
    refusal=st.none() | words,
    usage=st.none() | usages,
    model=st.none() | words,
    finish_reason=st.none() | words,
    interrupted=st.booleans(),
    voice_dropped=st.booleans(),
)
turns: st.SearchStrategy[Turn] = st.one_of(user_turns, assistant_turns, system_turns, tool_turns)
histories = st.lists(turns, max_size=12)
