"""Publish: a registry on the Hub, with a card, pictures and a table that people browse."""
