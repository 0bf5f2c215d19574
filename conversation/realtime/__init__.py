"""Hand-over to the Realtime API and back: turns seed a session, and what happens there is kept.

The caller owns the connection: `seed_events` returns events to send, and `Recorder`, or its twin
`AsyncRecorder`, is shown what was sent and received.
"""

from conversation.realtime._recorder import AsyncRecorder, Recorder
from conversation.realtime._seeding import seed_events

__all__ = ["AsyncRecorder", "Recorder", "seed_events"]
