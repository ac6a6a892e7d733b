"""Which embedder an index's prompts need: its space decides, and the user's word about a server of their own."""

from __future__ import annotations

import re

from pipeline.errors import UsageError
from pipeline.platform.access import EmbedderAccess
from pipeline.platform.embed import DEFAULT_SPACE, WordEmbedder
from pipeline.platform.prompts import AnyEmbedder
from pipeline.platform.remote_embed import VENDOR_URL, RemoteEmbedder, openai_api, vendor_api
from pipeline.platform.spaces import vendor_space

_VENDOR_MODEL = "marengo3.0"
# The one space whose prompts the vendor still embeds: it has ended version 2.7, which had 1,024 dimensions.
_VENDOR_SPACE = vendor_space(_VENDOR_MODEL, 512)
_OF_VENDOR = re.compile(r"marengo.*")


def embedder_for(space: str, dimensions: int, access: EmbedderAccess = EmbedderAccess()) -> AnyEmbedder:
    """The embedder whose vectors may be compared with those of an index, which have so many dimensions.

    Raises ``UsageError`` where there is none, or where something is missing to ask it.
    """
    if space == DEFAULT_SPACE:
        return WordEmbedder()
    if access.model is not None:
        if access.url is None:
            raise UsageError(f"embedder.model is {access.model!r}: embedder.url is missing: which server has it?")
        # The user may correct the name of the model; what the wrong one made must not be taken for the right one's.
        cache_name = f"{space} {access.model}"
        return RemoteEmbedder(openai_api(access.url, access.model, access.key), space, dimensions, cache_name)
    if space == _VENDOR_SPACE:
        key = access.key or access.vendor_key
        if key is None:
            raise UsageError(
                f"prompts for vectors of {space!r} are embedded by the vendor, which needs your API key there: set "
                "TWELVELABS_API_KEY in the environment, or embedder.key_env or embedder.key_file"
            )
        api = vendor_api(access.url or VENDOR_URL, _VENDOR_MODEL, key)
        return RemoteEmbedder(api, space, dimensions, space)
    if _OF_VENDOR.fullmatch(space):
        raise UsageError(
            f"the index holds vectors of {space!r}: they can be kept and looked at, but the vendor embeds prompts only "
            f"for {_VENDOR_SPACE!r}; have the videos indexed with {_VENDOR_MODEL} and import them into a new index"
        )
    raise UsageError(
        f"no embedder for the space {space!r}: say which OpenAI-compatible server has its model, and the model's name "
        "there (embedder.url and embedder.model, or --embedder-url and --embedder-model)"
    )
