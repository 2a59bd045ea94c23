"""Benchmarks: ``python -m bench`` measures guest kernels on mpemu and QEMU side by side, and natively."""
