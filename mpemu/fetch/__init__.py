"""``mpemu fetch``: guests that mpemu does not ship, brought into the user's cache from where they are published."""

from mpemu.fetch.linux import fetch_linux

__all__ = ["fetch_linux"]
