"""The place of a database: what its URL says, and what errors may repeat of it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from conversation.errors import InvalidSetting
from conversation.stores import _postgres_driver as driver

_DEFAULTS = {
    "connect_timeout": "8",
    "application_name": "conversation",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "6000",  # a network that drops everything is noticed within a lease
}


def settings_of(conninfo: str) -> dict[str, Any]:
    """Return what a URL, or libpq's key=value pairs, say.

    Raises:
        InvalidSetting: if libpq does not understand them.
    """
    try:
        settings = driver.conninfo.conninfo_to_dict(conninfo)
    except driver.psycopg.ProgrammingError as error:
        why = re.sub('".*"', '"…"', str(error), flags=re.DOTALL).strip()  # it quotes passwords
        msg = (
            "a PostgresStore needs a URL such as postgresql://user:password@host:5432/database, or "
            f"libpq's key=value pairs; it got what libpq does not understand: {why}"
        )
        raise InvalidSetting(msg) from None
    if "://" in conninfo and any(
        "@" in str(settings.get(key)) for key in ("host", "port", "dbname")
    ):
        msg = "percent-encode the password of the URL: / is %2F, @ is %40, : is %3A"
        raise InvalidSetting(msg)
    return settings


def conninfo_of(settings: dict[str, Any]) -> str:
    """Return key=value pairs for libpq, with our defaults, and always in UTF-8."""
    return driver.conninfo.make_conninfo("", **_DEFAULTS | settings | {"client_encoding": "utf8"})


def place_of(settings: dict[str, Any], schema: str) -> str:
    """Return a URL without a password, for errors."""
    hosts = str(settings.get("host") or settings.get("hostaddr") or "").split(",")
    ports = str(settings.get("port") or "").split(",")
    ports = ports if len(ports) == len(hosts) else ports * len(hosts)
    where = ",".join(
        f"{quote(host, safe='')}:{port}" if port else quote(host, safe="")
        for host, port in zip(hosts, ports, strict=False)
    )
    user = f"{quote(str(settings['user']))}@" if settings.get("user") else ""
    named = {"service": settings.get("service"), "schema": None if schema == "public" else schema}
    query = "&".join(f"{key}={quote(str(value))}" for key, value in named.items() if value)
    database = quote(str(settings.get("dbname") or ""))
    return f"postgresql://{user}{where}/{database}" + (f"?{query}" if query else "")
