"""A local server that reproduces OpenAI's audio API, for tests and for trying things out.

`python -m conversation.testing` serves it to any other client. `CONTRACT.md`, in this folder,
describes what it reproduces.
"""

from conversation.testing._api import Received
from conversation.testing._server import StandIn

__all__ = ["Received", "StandIn"]
