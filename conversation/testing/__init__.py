"""A server on this machine that keeps the contract of the real one, to test and try things on.

`python -m conversation.testing` serves it to any other client.
"""

from conversation.testing._api import Received
from conversation.testing._server import StandIn

__all__ = ["Received", "StandIn"]
