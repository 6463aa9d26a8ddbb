"""Formats: the containers of tensors that torch and numpy write, read without either library's own loader."""
