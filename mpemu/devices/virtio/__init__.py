"""Virtio devices over virtio-mmio: transport (mmio.py), virtqueues (queue.py), one file per device."""
