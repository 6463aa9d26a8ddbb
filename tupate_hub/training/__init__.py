"""Tuning of parameter-efficient methods: the only place with torch, transformers and adapters."""
