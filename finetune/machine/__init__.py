"""What a run stands on: device, processes, signals, shared memory."""
