"""Content: what an embedding is told by where the registry keeps no file of it."""

from __future__ import annotations

import hashlib
import json

from tupate_hub.embedding import TaskEmbedding

#: The precision of the files that additions write.
STORED = "float32"


def content_digest(embedding: TaskEmbedding) -> str:
    """A sha256 that is the same for the same numbers and scales, read from the same file.

    That of the file which they were read from, and their scales; of the embedding's own bytes where that is not known.
    """
    source = embedding.facts.get("source")
    known = source.get("sha256") if isinstance(source, dict) else None
    if not isinstance(known, str):
        return hashlib.sha256(embedding.to_bytes(STORED)).hexdigest()
    scales = {block.name: block.scale for block in embedding.blocks}
    return hashlib.sha256(f"{known} {json.dumps(scales, sort_keys=True)}".encode()).hexdigest()
