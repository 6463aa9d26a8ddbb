"""Predictors of transfer that need a model and the tasks' data: what a ranking of tuned parameters is compared with."""
