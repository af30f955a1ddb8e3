"""The commands: one file each, and the only place where objects are put together."""
