"""Whether a machine is fit for runs: its software, GPUs, processor and memory, and a storage folder."""
