"""EFS in the local cloud: what stands behind its mount targets."""
