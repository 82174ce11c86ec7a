"""The asyncio face: the only package that imports asyncio, beside the applications above it."""
