"""Keys and values of the guests of one mixing layer, kept in the model's own cache behind those of the hosts.

A guest at layer t sees other inputs than the same block sees as a host, so it needs keys and values of
its own. They lie in an extra layer of the cache, where beam search finds and reorders them; so does the
choice, which was made from the prompt and holds for all that follows.
"""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from molex_cli.errors import MethodError
from molex_cli.layers.guest_vote import ChosenGuests


class GuestLayer(CacheLayerMixin):
    """One cache layer for each guest, over the rows that chose it."""

    is_sliding = False
    is_croppable = True

    def __init__(self, empty: CacheLayerMixin) -> None:
        super().__init__()
        self.is_initialized = True
        self.choice: ChosenGuests | None = None
        """[B, 1] each, or None until the prompt has chosen."""
        self._empty = empty
        self._parts: dict[int, CacheLayerMixin] = {}

    def view(self, guest: int) -> "GuestCache":
        """Return a cache for the rows that chose the guest."""
        return GuestCache(self._parts.setdefault(guest, copy.deepcopy(self._empty)))

    def get_seq_length(self) -> int:
        """Return the number of tokens that the guests have seen; 0 where every row chose its own layer."""
        return max((part.get_seq_length() for part in self._parts.values()), default=0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return length and offset of the keys."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """Return -1: no limit."""
        return -1

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: the parts are made when they are first used."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Refuse: a guest updates its own part through its view."""
        raise TypeError("keys and values of guests are updated through GuestLayer.view")

    def reset(self) -> None:
        """Forget choice, keys and values."""
        self.choice, self._parts = None, {}

    def activate_past_recording(self) -> None:
        """Let sliding windows keep what a later crop may bring back."""
        for layer in (self._empty, *self._parts.values()):
            if hasattr(layer, "activate_past_recording"):
                layer.activate_past_recording()

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the last tokens."""
        for part in self._parts.values():
            part.crop(tokens_to_remove)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Let row i continue what row beam_idx[i] was."""
        if self.choice is None:
            return
        source = beam_idx.to(self.choice.guest.device)
        before, after = self.choice.guest[:, 0], self.choice.guest[source, 0]
        for guest in list(self._parts):
            index = (before == guest).cumsum(0) - 1  # of a row among those that chose this guest
            rows = index[source[after == guest]]
            if rows.numel():
                _select(self._parts[guest], rows)
            else:
                del self._parts[guest]
        self.choice = ChosenGuests(after[:, None], self.choice.weight[source])

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row."""
        if self.choice is not None:
            self.reorder_cache(torch.arange(len(self.choice.guest)).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows."""
        if self.choice is not None:
            self.reorder_cache(torch.arange(len(self.choice.guest), device=indices.device)[indices])


class GuestCache(Cache):
    """What a guest takes for the model's cache: one layer, whatever index the guest has as a host."""

    def __init__(self, layer: CacheLayerMixin) -> None:
        super().__init__(layers=[layer])

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append keys and values [B, heads, T, width] and return all so far."""
        return self.layers[0].update(key_states, value_states, *args, **kwargs)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens so far."""
        return self.layers[0].get_seq_length()


def guest_layer(cache: Cache, layer: int, mixing_index: int, num_layers: int) -> GuestLayer:
    """Return the cache's layer for the guests of a host, made before the host's first use.

    `mixing_index` counts the mixing layers; their guests' keys lie behind those of the `num_layers` hosts.
    """
    if cache.layer_class_to_replicate is not None:
        while len(cache.layers) < num_layers:
            cache.layers.append(cache.layer_class_to_replicate())
    index = num_layers + mixing_index
    while len(cache.layers) <= index:
        host = cache.layers[layer]
        if host.is_initialized or host.is_compileable:
            raise MethodError(
                f"the key/value cache must be an empty DynamicCache for MoLEx, got {type(host).__name__} "
                "that already has room or content; set cache_implementation to dynamic or use_cache=False"
            )
        cache.layers.append(GuestLayer(copy.deepcopy(host)))
    found = cache.layers[index]
    assert isinstance(found, GuestLayer)
    return found


def _select(layer: CacheLayerMixin, rows: Tensor) -> None:
    if layer.get_seq_length() > 0:
        assert layer.keys is not None
        assert layer.values is not None
        layer.keys = layer.keys.index_select(0, rows.to(layer.keys.device))
        layer.values = layer.values.index_select(0, rows.to(layer.values.device))
