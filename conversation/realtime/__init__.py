"""Hand-over to the Realtime API: turns seed a session. The caller owns the connection."""

from conversation.realtime._seeding import seed_events

__all__ = ["seed_events"]
