"""A Hub on this machine, of the standard library alone, that the real client talks to over HTTP.

`store` keeps repositories, commits and users; `server` speaks the protocol; `faults` are the switches for what goes
wrong. Faithful to what huggingface_hub 0.36 and 2.4 send and expect, as measured on the wire; not real: xet, the
dataset viewer, the web pages.
"""

from loopback.faults import Fault
from loopback.server import LoopbackHub, Seen
from loopback.store import Store, User

__all__ = ["Fault", "LoopbackHub", "Seen", "Store", "User"]
