"""The embedding's own file, the form for methods that no library has a place for."""

from __future__ import annotations

from tupate_hub.embedding import TaskEmbedding
from tupate_hub.export.readme import readme_of_biases, readme_of_own
from tupate_hub.head import Head


def as_embedding(embedding: TaskEmbedding, bare: bool = False, head: Head | None = None) -> dict[str, bytes]:
    """The embedding's own file, in float32, with the lines that answer by it, or put tuned biases into a model."""
    files = {f"{embedding.task}.safetensors": embedding.to_bytes("float32")}
    if head is not None:
        files["README.md"] = readme_of_own(embedding, head)
    elif embedding.space.method == "bitfit":
        files["README.md"] = readme_of_biases(embedding)
    return files
