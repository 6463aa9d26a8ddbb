"""Evaluation: rankings judged by measured transfer."""
