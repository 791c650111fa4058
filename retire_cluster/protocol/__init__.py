"""What agent and gateway say to each other. Pure: no Django, no asyncio, no clock, no randomness."""
