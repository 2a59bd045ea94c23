"""Console backends: where a serial device's characters come from and go to."""

from mpemu.devices.chardev.backends import CONSOLES, make_chardev
from mpemu.devices.chardev.base import Chardev
from mpemu.devices.chardev.escape import EscapeActions

__all__ = ["CONSOLES", "Chardev", "EscapeActions", "make_chardev"]
