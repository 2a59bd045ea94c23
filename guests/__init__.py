"""Guest programs: sources and how they are built."""
