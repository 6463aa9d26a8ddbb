"""The embedding's own file, the form for methods that no library has a place for."""

from __future__ import annotations

from tupate_hub.embedding import TaskEmbedding
from tupate_hub.export.readme import readme_of_biases
from tupate_hub.head import Head


def as_embedding(embedding: TaskEmbedding, bare: bool = False, head: Head | None = None) -> dict[str, bytes]:
    """The embedding's own file, in float32; tuned biases come with the lines that put them into the base model."""
    files = {f"{embedding.task}.safetensors": embedding.to_bytes("float32")}
    if embedding.space.method == "bitfit":
        files["README.md"] = readme_of_biases(embedding)
    return files
