"""The servers that take another form than OpenAI's, told by their address."""

from __future__ import annotations

from urllib.parse import urlsplit

import attrs

_STRICT = ("openai.com", "azure.com", "azure-api.net", "azure.us", "azure.cn")
_SOUND_AS_URL = ("aliyuncs.com",)


@attrs.frozen
class Server:
    """The form in which a server takes messages.

    Attributes:
        takes_unknown_keys: True if its answers and tool calls are sent back as they came, with
            keys, names and ids that OpenAI refuses.
        sound_as_url: True if it takes sound as a data URL only.
        refused_keys: Keys that it has refused all the same.
    """

    takes_unknown_keys: bool = False
    sound_as_url: bool = False
    refused_keys: frozenset[str] = frozenset()


OPENAI = Server()


def server_of(client: object, sound_as_url: bool | None = None) -> Server:
    """Return the server of one of the SDK's clients; without a client, OpenAI's.

    Args:
        client: The client, or None.
        sound_as_url: Overrules what the address says.
    """
    host = (urlsplit(str(getattr(client, "base_url", ""))).hostname or "").rstrip(".")
    domain = ".".join(host.split(".")[-2:])
    return Server(
        takes_unknown_keys=bool(domain) and domain not in _STRICT,
        sound_as_url=domain in _SOUND_AS_URL if sound_as_url is None else sound_as_url,
    )
