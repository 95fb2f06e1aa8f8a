"""Pure functions of tensors as machine code, made once for a machine and kept on disk."""
