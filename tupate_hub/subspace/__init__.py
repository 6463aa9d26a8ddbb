"""The intrinsic subspace (IPT): a few numbers that describe a task, found over the embeddings of many."""
