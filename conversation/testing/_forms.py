"""The fields of a `multipart/form-data` body."""

from __future__ import annotations

import email.message
import email.parser
from typing import Any

import attrs


@attrs.frozen
class Upload:
    """A file in a form.

    Attributes:
        filename: Its name, as the client gave it.
        data: Its bytes.
    """

    filename: str
    data: bytes


def fields_of(content_type: str, data: bytes) -> dict[str, str | list[str] | Upload]:
    """Each field by its name; a name that ends in `[]` has a list. Empty where it is no form."""
    kind = email.message.Message()
    kind["content-type"] = content_type
    boundary = kind.get_boundary()
    if boundary is None:
        return {}
    fields: dict[str, Any] = {}
    # The first piece stands before the form, and the last is the two hyphens that end it.
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
