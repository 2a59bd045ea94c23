"""Functions of the C library that generated code calls, by their place in the table at HART.host."""

HOST_FUNCTIONS = ("clock_gettime", "ppoll", "read", "write", "sched_yield")
