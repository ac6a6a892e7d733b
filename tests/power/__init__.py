"""Power cuts, simulated: a real run is recorded, and then replayed onto disks that lost whatever was not synced."""
