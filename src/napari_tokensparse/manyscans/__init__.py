"""Many scans, in one process or on a cluster."""
