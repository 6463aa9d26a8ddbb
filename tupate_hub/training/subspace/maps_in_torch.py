"""Maps in torch: the encoder and decoder of a subspace as tensors, to decode on a device or to learn."""

from __future__ import annotations

import numpy as np
import torch

from tupate_hub.subspace.maps import Linear, Maps


class TorchMaps:
    """The maps as tensors that can learn. Parameters come and go less their mean, which stays as it is."""

    def __init__(self, maps: Maps, device: torch.device, *, trained: bool = False) -> None:
        def tensor(array: object) -> torch.Tensor:
            return torch.tensor(np.asarray(array, dtype=np.float32), device=device, requires_grad=trained)

        self.mean = tensor(maps.decoder[-1].bias).detach().clone()
        mean = np.asarray(maps.decoder[-1].bias, dtype=np.float64)
        at_mean = maps.encoder.weight.astype(np.float64) @ mean + maps.encoder.bias
        self.encoder = (tensor(maps.encoder.weight), tensor(at_mean))
        biases = [layer.bias for layer in maps.decoder[:-1]] + [np.zeros_like(maps.decoder[-1].bias)]
        weights = [layer.weight for layer in maps.decoder]
        self.decoder = [(tensor(weight), tensor(bias)) for weight, bias in zip(weights, biases, strict=True)]

    def encode(self, flat: torch.Tensor) -> torch.Tensor:
        """Coordinates (tasks, D) of parameters (tasks, P)."""
        return torch.nn.functional.linear(flat - self.mean, *self.encoder)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Parameters (tasks, P) at coordinates (tasks, D)."""
        for weight, bias in self.decoder[:-1]:
            codes = torch.tanh(torch.nn.functional.linear(codes, weight, bias))
        return torch.nn.functional.linear(codes, *self.decoder[-1]) + self.mean

    def state(self) -> list[torch.Tensor]:
        """Copies of all that can learn, in order."""
        return [value.detach().clone() for layer in (self.encoder, *self.decoder) for value in layer]

    def load(self, state: list[torch.Tensor]) -> None:
        """Put such copies back."""
        own = [value for layer in (self.encoder, *self.decoder) for value in layer]
        with torch.no_grad():
            for value, stored in zip(own, state, strict=True):
                value.copy_(stored)

    def maps(self) -> Maps:
        """The maps as arrays."""
        mean = self.mean.cpu().numpy().astype(np.float64)
        weight, at_mean = (value.detach().cpu().numpy() for value in self.encoder)
        encoder = Linear(weight, (at_mean - weight.astype(np.float64) @ mean).astype(np.float32))
        layers = [Linear(*(value.detach().cpu().numpy() for value in layer)) for layer in self.decoder]
        last = Linear(layers[-1].weight, (layers[-1].bias + mean).astype(np.float32))
        return Maps(encoder, (*layers[:-1], last))
