"""What the errors of servers mean."""

from __future__ import annotations

import openai
import pytest
from openai import OpenAI

from conversation._values.parts import FileInput, ImageInput
from conversation._wire.failures import refused_media
from conversation.testing import StandIn


@pytest.mark.parametrize(
    ("status", "message", "kinds"),
    [
        (400, "This model does not support image_url content.", (ImageInput,)),
        (400, "This model does not support file content.", (FileInput,)),
        (404, "No endpoints found that support image input", (ImageInput,)),
        (
            400,
            "Invalid content type. image_url is only supported by certain models.",
            (ImageInput,),
        ),
        (500, "image input is not supported - hint: provide a projector", (ImageInput,)),
        (400, "The model doesn't support images.", (ImageInput,)),
        (422, "unknown variant `image_url`, expected `text`", (ImageInput,)),
        (400, "At most 0 image(s) may be provided in one prompt.", (ImageInput,)),
        (400, "Image and file content: images and files are not supported.", (FileInput,)),
        (400, "You uploaded an unsupported image. Use one of: png, jpeg, gif, webp.", ()),
        (400, "The image format is not supported.", ()),
        (400, "Server does not support file format heic.", ()),
        (400, "The audio file is not supported.", ()),
        (400, "Content blocks are expected to be either text or image_url type.", ()),
        (400, "This model does not support the format you provided.", ()),
        (404, "The model `image` does not exist.", ()),
    ],
)
def test_refusals_of_media_are_told_from_others(
    server: StandIn,
    client: OpenAI,
    status: int,
    message: str,
    kinds: tuple[type[ImageInput | FileInput], ...],
) -> None:
    """A refusal of pictures or files by the model is told from refusals of one of them."""
    server.will_fail(status, message)
    with pytest.raises(openai.APIStatusError) as caught:
        client.models.list()
    assert refused_media(caught.value) == kinds
    assert refused_media(ValueError(message)) == ()
