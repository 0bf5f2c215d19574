"""Parser for `multipart/form-data` bodies."""

from __future__ import annotations

import email.message
import email.parser
from typing import Any

import attrs


@attrs.frozen
class Upload:
    """A file in a form.

    Attributes:
        filename: File name as sent by the client.
        data: Content.
    """

    filename: str
    data: bytes


def parse_form(content_type: str, data: bytes) -> dict[str, str | list[str] | Upload]:
    """Return the fields by name, as a list where the name ends in `[]`; empty if not a form."""
    header = email.message.Message()
    header["content-type"] = content_type
    boundary = header.get_boundary()
    if boundary is None:
        return {}
    fields: dict[str, Any] = {}
    # The first piece precedes the form, the last is the closing "--".
    for part in (b"\r\n" + data).split(b"\r\n--" + boundary.encode())[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        text = head.decode(errors="replace").strip()
        headers = email.parser.HeaderParser().parsestr(text)
        name = str(headers.get_param("name", "", "content-disposition"))
        filename = headers.get_filename()
        if filename is not None:
            fields[name] = Upload(filename, value)
        elif name.endswith("[]"):
            fields.setdefault(name, []).append(value.decode(errors="replace"))
        else:
            fields[name] = value.decode(errors="replace")
    return fields
