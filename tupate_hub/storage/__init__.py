"""Storage: files of this project's own, written whole or not at all, and read with suspicion."""
